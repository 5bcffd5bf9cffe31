// Envelope encryption of tenants' credentials: BRAINOPS_SECRET_KEY encrypts a key of each tenant,
// that key encrypts the tenant's credentials. AES-256-GCM both times (NIST SP 800-38D: a fresh
// 96-bit initialisation vector for each encryption, a 128-bit tag), and what the ciphertext belongs
// to is authenticated with it: one moved to another row, tenant or provider does not open.
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { BrainOpsError } from "../../errors.ts";

const IV_BYTES = 12;
const TAG_BYTES = 16;

/** Which BRAINOPS_SECRET_KEY this is, without giving it away: 16 hexadecimal digits of its sha256. */
export function secretKeyId(secretKey: Buffer): string {
  return createHash("sha256").update(secretKey).digest("hex").slice(0, 16);
}

/** A new key for a tenant, wrapped for tenant_keys.wrapped_key. */
export function newTenantKey(secretKey: Buffer, tenantId: string): Buffer {
  return encrypt(secretKey, tenantId, randomBytes(32));
}

/** Whether the tenant key opens with this BRAINOPS_SECRET_KEY. */
export function opensTenantKey(secretKey: Buffer, tenantId: string, wrapped: Buffer): boolean {
  try {
    unwrap(secretKey, tenantId, wrapped);
    return true;
  } catch {
    return false;
  }
}

/** The same tenant key under another BRAINOPS_SECRET_KEY. */
export function rewrapTenantKey(from: Buffer, to: Buffer, tenantId: string, wrapped: Buffer): Buffer {
  return encrypt(to, tenantId, unwrap(from, tenantId, wrapped));
}

/** What a sealed credential belongs to; a change of any part makes it unreadable. */
export interface Belonging {
  readonly tenantId: string;
  readonly provider: string;
  readonly name: string;
}

export function seal(secretKey: Buffer, wrapped: Buffer, of: Belonging, credential: object): Buffer {
  const key = unwrap(secretKey, of.tenantId, wrapped);
  return encrypt(key, placeOf(of), Buffer.from(JSON.stringify(credential)));
}

/** The credential, as it was sealed. Throws OP036 where the key or the place is another. */
export function unseal(secretKey: Buffer, wrapped: Buffer, of: Belonging, sealed: Buffer): unknown {
  const key = unwrap(secretKey, of.tenantId, wrapped);
  return JSON.parse(decrypt(key, placeOf(of), sealed).toString("utf8"));
}

function unwrap(secretKey: Buffer, tenantId: string, wrapped: Buffer): Buffer {
  return decrypt(secretKey, tenantId, wrapped);
}

function placeOf({ tenantId, provider, name }: Belonging): string {
  return JSON.stringify([tenantId, provider, name]);
}

function encrypt(key: Buffer, place: string, plain: Buffer): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(place));
  const encrypted = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), encrypted]);
}

function decrypt(key: Buffer, place: string, bytes: Buffer): Buffer {
  const iv = bytes.subarray(0, IV_BYTES);
  const tag = bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES);
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES })
      .setAAD(Buffer.from(place))
      .setAuthTag(tag);
    return Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]);
  } catch (cause) {
    throw new BrainOpsError("OP036", "A credential does not open: it was sealed with another key, or moved.", {
      cause,
    });
  }
}
