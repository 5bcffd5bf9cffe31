// Tenants' own credentials in the database: written sealed, read by load queries in the claiming
// transaction, opened where they are used.
import type pg from "pg";
import { z } from "zod";
import type { Config } from "../../config.ts";
import { BrainOpsError } from "../../errors.ts";
import { newTenantKey, rewrapTenantKey, seal, secretKeyId, unseal } from "./envelope.ts";
import { credentialShapes, hintOf, type Credential, type CredentialProvider } from "./shapes.ts";

/** A sealed credential as sealedCredential() reads it; bytea in base64, as it comes inside jsonb. */
export interface SealedCredential {
  readonly tenant_id: string;
  readonly provider: string;
  readonly name: string;
  readonly sealed: string;
  readonly wrapped_key: string;
  readonly secret_key_id: string;
}

// One jsonb, so that it travels as a column of any query.
const AS_JSON = `jsonb_build_object(
  'tenant_id', c.tenant_id, 'provider', c.provider, 'name', c.name, 'sealed', encode(c.sealed, 'base64'),
  'wrapped_key', encode(k.wrapped_key, 'base64'), 'secret_key_id', k.secret_key_id
)`;
const FROM = "from public.provider_credentials as c inner join public.tenant_keys as k on k.tenant_id = c.tenant_id";

/**
 * A scalar subquery for a load query: the tenant's active credential as SealedCredential, or null.
 * @param tenant the tenant's id as a column of the outer query, e.g. "e.tenant_id"; c and k are taken in here
 */
export function sealedCredential(provider: CredentialProvider, tenant: string): string {
  return `(select ${AS_JSON} ${FROM}
    where c.tenant_id = ${tenant} and c.provider = '${provider}' and c.name = 'default' and c.active)`;
}

/**
 * A scalar subquery for a load query: one credential of the tenant's as SealedCredential, switched off or not; null
 * where there is none of this id.
 * @param id the credential's id as a column of the outer query, e.g. "l.account"
 */
export function sealedCredentialOf(id: string, tenant: string): string {
  return `(select ${AS_JSON} ${FROM} where c.id = ${id} and c.tenant_id = ${tenant})`;
}

export interface Endpoint extends SealedCredential {
  /** Whether the tenant has switched the credential off. */
  readonly active: boolean;
}

/** Whose webhook endpoint this is; null where nobody's. For logins that are members of brainops_system. */
export async function findEndpoint(
  pool: pg.Pool,
  provider: CredentialProvider,
  token: string,
): Promise<Endpoint | null> {
  if (!/^[0-9a-f]{64}$/.test(token)) return null;
  const { rows } = await pool.query<{ endpoint: Endpoint }>(
    `select ${AS_JSON} || jsonb_build_object('active', c.active) as endpoint ${FROM}
     where c.endpoint_token = $1 and c.provider = $2`,
    [token, provider],
  );
  return rows[0]?.endpoint ?? null;
}

/** Opens a sealed credential. Throws OP035 without BRAINOPS_SECRET_KEY, OP036 where it is another one. */
export function openCredential<P extends CredentialProvider>(
  provider: P,
  sealed: SealedCredential,
  config: Pick<Config, "BRAINOPS_SECRET_KEY">,
): Credential<P> {
  const secretKey = requireSecretKey(config);
  if (secretKeyId(secretKey) !== sealed.secret_key_id) {
    throw new BrainOpsError(
      "OP036",
      `The ${provider} credential was sealed with BRAINOPS_SECRET_KEY ${sealed.secret_key_id}, not with ${secretKeyId(secretKey)}.`,
    );
  }
  const of = { tenantId: sealed.tenant_id, provider: sealed.provider, name: sealed.name };
  const opened = unseal(secretKey, Buffer.from(sealed.wrapped_key, "base64"), of, Buffer.from(sealed.sealed, "base64"));
  return credentialShapes[provider].parse(opened) as Credential<P>;
}

/** Writes a tenant's credential, sealed; returns the token of its webhook endpoint. One transaction of the caller's. */
export async function saveCredential(
  client: pg.ClientBase,
  config: Pick<Config, "BRAINOPS_SECRET_KEY">,
  account: { readonly tenantId: string; readonly provider: CredentialProvider; readonly name?: string },
  credential: unknown,
): Promise<string> {
  const secretKey = requireSecretKey(config);
  const { tenantId, provider, name = "default" } = account;
  const parsed = credentialShapes[provider].safeParse(credential);
  if (!parsed.success) throw new BrainOpsError("OP037", `${provider}: ${z.prettifyError(parsed.error)}`);
  const wrapped = await tenantKey(client, secretKey, tenantId);
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

/** The tenant's wrapped key; made when first asked for. */
async function tenantKey(client: pg.ClientBase, secretKey: Buffer, tenantId: string): Promise<Buffer> {
  // Two at once make two keys, and one is kept: the insert that comes second changes nothing.
  await client.query(
    `insert into public.tenant_keys (tenant_id, wrapped_key, secret_key_id) values ($1, $2, $3)
     on conflict (tenant_id) do nothing`,
    [tenantId, newTenantKey(secretKey, tenantId), secretKeyId(secretKey)],
  );
  const { rows } = await client.query<{ wrapped_key: Buffer; secret_key_id: string }>(
    "select wrapped_key, secret_key_id from public.tenant_keys where tenant_id = $1",
    [tenantId],
  );
  const key = rows[0];
  if (key === undefined) throw new BrainOpsError("OP009", `tenant_keys has no key of tenant ${tenantId}`);
  if (key.secret_key_id !== secretKeyId(secretKey)) {
    throw new BrainOpsError(
      "OP036",
      `The tenant's key was made with BRAINOPS_SECRET_KEY ${key.secret_key_id}, not with ${secretKeyId(secretKey)}.`,
    );
  }
  return key.wrapped_key;
}

/** Wraps every tenant's key anew; the credentials themselves stay as they are. Returns how many. */
export async function rekey(client: pg.ClientBase, from: Buffer, to: Buffer): Promise<number> {
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
  return rows.length;
}

function requireSecretKey(config: Pick<Config, "BRAINOPS_SECRET_KEY">): Buffer {
  if (config.BRAINOPS_SECRET_KEY !== undefined) return config.BRAINOPS_SECRET_KEY;
  throw new BrainOpsError(
    "OP035",
    "BRAINOPS_SECRET_KEY is not set, so tenants' own credentials can't be read or written.",
  );
}
