// Tenant credentials in the database: stored encrypted (sealed), read by load queries in the claim's
// transaction, decrypted (opened) where they are used.
import type pg from "pg";
import { z } from "zod";
import type { Config } from "../../config.ts";
import { BrainOpsError } from "../../errors.ts";
import { newTenantKey, opensTenantKey, rewrapTenantKey, seal, secretKeyId, unseal } from "./envelope.ts";
import { credentialShapes, hintOf, type Credential, type CredentialProvider } from "./shapes.ts";

/** What brainops_internal.sealed_credential returns; bytea in base64. */
export interface SealedCredential {
  readonly tenant_id: string;
  readonly provider: string;
  readonly name: string;
  readonly sealed: string;
  readonly wrapped_key: string;
  readonly secret_key_id: string;
}

export interface Endpoint extends SealedCredential {
  /** False if the tenant has deactivated the credential. */
  readonly active: boolean;
}

/**
 * The credential that a webhook endpoint's token belongs to; null for an unknown token. The login must
 * be a member of brainops_system, because the tenant is not known yet.
 */
export async function findEndpoint(
  pool: pg.Pool,
  provider: CredentialProvider,
  token: string,
): Promise<Endpoint | null> {
  if (!/^[0-9a-f]{64}$/.test(token)) return null;
  const { rows } = await pool.query<{ endpoint: Endpoint | null }>(
    "select brainops_internal.find_endpoint($1, $2) as endpoint",
    [provider, token],
  );
  return rows[0]?.endpoint ?? null;
}

/**
 * Decrypts a credential. Throws OP035 without BRAINOPS_SECRET_KEY, OP036 if it was sealed with another key, OP037 if
 * its fields are not what is accepted today.
 */
export function openCredential<P extends CredentialProvider>(
  provider: P,
  sealed: SealedCredential,
  config: Pick<Config, "BRAINOPS_SECRET_KEY">,
): Credential<P> {
  const secretKey = requireSecretKey(config);
  if (secretKeyId(secretKey) !== sealed.secret_key_id) {
    throw new BrainOpsError(
      "OP036",
      `The ${provider} credential was sealed with BRAINOPS_SECRET_KEY ${sealed.secret_key_id}; the current key is ${secretKeyId(secretKey)}.`,
    );
  }
  const scope = { tenantId: sealed.tenant_id, provider: sealed.provider, name: sealed.name };
  const wrapped = Buffer.from(sealed.wrapped_key, "base64");
  const opened = unseal(secretKey, wrapped, scope, Buffer.from(sealed.sealed, "base64"));
  const parsed = credentialShapes[provider].safeParse(opened);
  // prettifyError names fields and what was expected of them, never a value.
  if (!parsed.success) throw new BrainOpsError("OP037", `${provider}: ${z.prettifyError(parsed.error)}`);
  return parsed.data as Credential<P>;
}

/** Names one of a tenant's credentials. */
export interface CredentialPlace {
  readonly tenantId: string;
  readonly provider: CredentialProvider;
  /** @default "default" */
  readonly name?: string;
}

/**
 * Encrypts and stores a tenant's credential and returns the token of its webhook endpoint. Must run in a
 * transaction of the caller. Throws OP035 without BRAINOPS_SECRET_KEY, OP037 for malformed fields, OP036
 * if BRAINOPS_SECRET_KEY does not decrypt the tenant's key and other credentials are sealed with that key.
 */
export async function saveCredential(
  client: pg.ClientBase,
  config: Pick<Config, "BRAINOPS_SECRET_KEY">,
  account: CredentialPlace,
  credential: unknown,
): Promise<string> {
  const secretKey = requireSecretKey(config);
  const { tenantId, provider, name = "default" } = account;
  const parsed = credentialShapes[provider].safeParse(credential);
  if (!parsed.success) throw new BrainOpsError("OP037", `${provider}: ${z.prettifyError(parsed.error)}`);
  const wrapped = await keyForWriting(client, secretKey, account);
  const sealed = seal(secretKey, wrapped, { tenantId, provider, name }, parsed.data);
  const { rows } = await client.query<{ endpoint_token: string }>(
    `insert into public.provider_credentials (tenant_id, provider, name, sealed, hint)
     values ($1, $2, $3, $4, $5)
     on conflict (tenant_id, provider, name) do update
       set sealed = excluded.sealed, hint = excluded.hint, active = true
     returning endpoint_token`,
    [tenantId, provider, name, sealed, hintOf(provider, parsed.data)],
  );
  return rows[0]?.endpoint_token ?? "";
}

/**
 * Replaces the tenant's key if BRAINOPS_SECRET_KEY does not decrypt it, and deletes the credentials that
 * were sealed with the old key, except `place`, which the caller writes next: it keeps its id and
 * endpoint. Returns the deleted credentials, e.g. "sendgrid", "form contact"; [] if the key is good.
 * Must run in a transaction of the caller.
 */
export async function beginNewKey(
  client: pg.ClientBase,
  config: Pick<Config, "BRAINOPS_SECRET_KEY">,
  place: CredentialPlace,
): Promise<readonly string[]> {
  const secretKey = requireSecretKey(config);
  const key = await lockTenantKey(client, secretKey, place.tenantId);
  if (opens(key, secretKey, place.tenantId)) return [];
  const { rows } = await client.query<Named>(
    `delete from public.provider_credentials ${OTHERS} returning provider, name`,
    othersOf(place),
  );
  await replaceTenantKey(client, secretKey, place.tenantId);
  return namesOf(rows);
}

/** The tenant's wrapped key. Replaces a key that cannot be decrypted if it seals no other credential. */
async function keyForWriting(client: pg.ClientBase, secretKey: Buffer, place: CredentialPlace): Promise<Buffer> {
  const key = await lockTenantKey(client, secretKey, place.tenantId);
  if (opens(key, secretKey, place.tenantId)) return key.wrapped_key;
  const { rows } = await client.query<Named>(
    `select provider, name from public.provider_credentials ${OTHERS}`,
    othersOf(place),
  );
  if (rows.length === 0) return replaceTenantKey(client, secretKey, place.tenantId);
  throw new BrainOpsError(
    "OP036",
    `The tenant's key was made with BRAINOPS_SECRET_KEY ${key.secret_key_id}, cannot be decrypted with ${secretKeyId(secretKey)}, and seals ${namesOf(rows).join(", ")}.`,
  );
}

interface TenantKey {
  readonly wrapped_key: Buffer;
  readonly secret_key_id: string;
}

function opens(key: TenantKey, secretKey: Buffer, tenantId: string): boolean {
  return key.secret_key_id === secretKeyId(secretKey) && opensTenantKey(secretKey, tenantId, key.wrapped_key);
}

/** Reads the tenant's key, creating it if missing. Locks the row, so that no one seals with a key that is being replaced. */
async function lockTenantKey(client: pg.ClientBase, secretKey: Buffer, tenantId: string): Promise<TenantKey> {
  // Of two concurrent inserts the second does nothing, so both transactions use the first key.
  await client.query(
    `insert into public.tenant_keys (tenant_id, wrapped_key, secret_key_id) values ($1, $2, $3)
     on conflict (tenant_id) do nothing`,
    [tenantId, newTenantKey(secretKey, tenantId), secretKeyId(secretKey)],
  );
  const { rows } = await client.query<TenantKey>(
    "select wrapped_key, secret_key_id from public.tenant_keys where tenant_id = $1 for update",
    [tenantId],
  );
  const key = rows[0];
  if (key === undefined) throw new BrainOpsError("OP009", `tenant_keys has no key of tenant ${tenantId}`);
  return key;
}

async function replaceTenantKey(client: pg.ClientBase, secretKey: Buffer, tenantId: string): Promise<Buffer> {
  const wrapped = newTenantKey(secretKey, tenantId);
  await client.query("update public.tenant_keys set wrapped_key = $2, secret_key_id = $3 where tenant_id = $1", [
    tenantId,
    wrapped,
    secretKeyId(secretKey),
  ]);
  return wrapped;
}

/** All credentials of the tenant, active or not, except the one that the caller writes. */
const OTHERS = "where tenant_id = $1 and (provider, name) <> ($2, $3)";

function othersOf({ tenantId, provider, name = "default" }: CredentialPlace): string[] {
  return [tenantId, provider, name];
}

interface Named {
  readonly provider: string;
  readonly name: string;
}

function namesOf(rows: readonly Named[]): string[] {
  return rows.map(({ provider, name }) => (name === "default" ? provider : `${provider} ${name}`)).toSorted();
}

export interface Rekeyed {
  /** How many keys were rewrapped. */
  readonly count: number;
  /** Tenants whose key is wrapped with neither `from` nor `to`. Their keys were not changed. */
  readonly left: readonly { readonly slug: string; readonly secret_key_id: string }[];
}

/** Rewraps every tenant key that is wrapped with `from`. Credentials do not change. Idempotent. */
export async function rekey(client: pg.ClientBase, from: Buffer, to: Buffer): Promise<Rekeyed> {
  const { rows } = await client.query<{ id: string; tenant_id: string; wrapped_key: Buffer }>(
    "select id, tenant_id, wrapped_key from public.tenant_keys where secret_key_id = $1 for update",
    [secretKeyId(from)],
  );
  for (const key of rows) {
    await client.query("update public.tenant_keys set wrapped_key = $2, secret_key_id = $3 where id = $1", [
      key.id,
      rewrapTenantKey(from, to, key.tenant_id, key.wrapped_key),
      secretKeyId(to),
    ]);
  }
  const { rows: left } = await client.query<{ slug: string; secret_key_id: string }>(
    `select t.slug, k.secret_key_id
     from public.tenant_keys as k inner join public.tenants as t on t.id = k.tenant_id
     where k.secret_key_id <> $1 order by t.slug`,
    [secretKeyId(to)],
  );
  return { count: rows.length, left };
}

function requireSecretKey(config: Pick<Config, "BRAINOPS_SECRET_KEY">): Buffer {
  if (config.BRAINOPS_SECRET_KEY !== undefined) return config.BRAINOPS_SECRET_KEY;
  throw new BrainOpsError("OP035", "BRAINOPS_SECRET_KEY is not set, so tenant credentials can't be read or written.");
}
