// Envelope encryption of tenant credentials: BRAINOPS_SECRET_KEY encrypts one key per tenant, and that
// key encrypts the tenant's credentials. Both use AES-256-GCM (NIST SP 800-38D: a fresh 96-bit
// initialisation vector for each encryption, a 128-bit tag). Tenant, provider and name are
// authenticated as additional data, so a ciphertext moved to another row cannot be decrypted.
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { BrainOpsError } from "../../errors.ts";

const IV_BYTES = 12;
const TAG_BYTES = 16;

/** Identifies a BRAINOPS_SECRET_KEY without revealing it: the first 16 hexadecimal digits of its SHA-256. */
export function secretKeyId(secretKey: Buffer): string {
  return createHash("sha256").update(secretKey).digest("hex").slice(0, 16);
}

/** Generates a tenant key, encrypted for tenant_keys.wrapped_key. */
export function newTenantKey(secretKey: Buffer, tenantId: string): Buffer {
  return encrypt(secretKey, tenantId, randomBytes(32));
}

/** Whether this BRAINOPS_SECRET_KEY decrypts the tenant key. */
export function opensTenantKey(secretKey: Buffer, tenantId: string, wrapped: Buffer): boolean {
  try {
    unwrap(secretKey, tenantId, wrapped);
    return true;
  } catch {
    return false;
  }
}

/** The same tenant key, encrypted with another BRAINOPS_SECRET_KEY. Throws OP036 if `from` does not decrypt it. */
export function rewrapTenantKey(from: Buffer, to: Buffer, tenantId: string, wrapped: Buffer): Buffer {
  return encrypt(to, tenantId, unwrap(from, tenantId, wrapped));
}

/** Where a credential is stored. Authenticated: a credential read with any other value cannot be decrypted. */
export interface CredentialScope {
  readonly tenantId: string;
  readonly provider: string;
  readonly name: string;
}

/** Encrypts a credential. Throws OP036 if the secret key does not decrypt the tenant key. */
export function seal(secretKey: Buffer, wrapped: Buffer, scope: CredentialScope, credential: object): Buffer {
  const key = unwrap(secretKey, scope.tenantId, wrapped);
  return encrypt(key, associatedData(scope), Buffer.from(JSON.stringify(credential)));
}

/** Decrypts a credential. Throws OP036 if the key or the scope differs from the one it was sealed with. */
export function unseal(secretKey: Buffer, wrapped: Buffer, scope: CredentialScope, sealed: Buffer): unknown {
  const key = unwrap(secretKey, scope.tenantId, wrapped);
  return JSON.parse(decrypt(key, associatedData(scope), sealed).toString("utf8"));
}

function unwrap(secretKey: Buffer, tenantId: string, wrapped: Buffer): Buffer {
  return decrypt(secretKey, tenantId, wrapped);
}

function associatedData({ tenantId, provider, name }: CredentialScope): string {
  return JSON.stringify([tenantId, provider, name]);
}

function encrypt(key: Buffer, associated: string, plain: Buffer): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(associated));
  const encrypted = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), encrypted]);
}

function decrypt(key: Buffer, associated: string, bytes: Buffer): Buffer {
  const iv = bytes.subarray(0, IV_BYTES);
  const tag = bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES);
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES })
      .setAAD(Buffer.from(associated))
      .setAuthTag(tag);
    return Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]);
  } catch (cause) {
    throw new BrainOpsError(
      "OP036",
      "A credential cannot be decrypted: it was sealed with another key, or moved to another row.",
      { cause },
    );
  }
}
