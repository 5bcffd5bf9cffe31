// Authentication against pg_authid, with Postgres' own messages and error codes.
import type { Engine } from "./engine.ts";
import { cstring, FatalError, encode, int32, MAX_STARTUP_BYTES, typeOf } from "./messages.ts";
import { parseVerifier, ScramExchange } from "./scram.ts";
import type { Login } from "./session.ts";
import { literal } from "./sqltext.ts";
import type { Startup } from "./startup.ts";
import type { MessageStream } from "./stream.ts";

/** `scram`: SCRAM-SHA-256 with the role's password. `trust`: no password, for tests. */
export type AuthMethod = "scram" | "trust";

export interface Role extends Login {
  /** rolconnlimit; -1 for no limit. */
  readonly connectionLimit: number;
  /** name=value, from ALTER ROLE … SET and ALTER DATABASE … SET, in ascending precedence. */
  readonly settings: readonly string[];
}

const DATABASE = "postgres";

/** Authenticates the client. Throws a FatalError with Postgres' SQLSTATE if it is refused. */
export async function authenticate(
  engine: Engine,
  stream: MessageStream,
  startup: Startup,
  options: { readonly auth: AuthMethod; readonly mockKey: Buffer },
): Promise<Role> {
  const found = await lookUp(engine, startup.user);
  if (options.auth === "scram") {
    const usable = found !== null && !found.expired ? parseVerifier(found.password) : null;
    if (!(await exchange(stream, new ScramExchange(usable, options.mockKey, startup.user)))) {
      throw new FatalError("28P01", `password authentication failed for user "${startup.user}"`);
    }
  }
  if (found === null) throw new FatalError("28000", `role "${startup.user}" does not exist`);
  if (!found.canLogin) throw new FatalError("28000", `role "${startup.user}" is not permitted to log in`);
  if (startup.database !== DATABASE) {
    throw new FatalError("3D000", `database "${startup.database}" does not exist`, {
      hint: `The built-in Postgres has one database, "${DATABASE}".`,
    });
  }
  return found;
}

interface FoundRole extends Role {
  readonly canLogin: boolean;
  readonly password: string | null;
  readonly expired: boolean;
}

async function lookUp(engine: Engine, name: string): Promise<FoundRole | null> {
  const rows = await engine.lock.run(() =>
    engine.system(`
      select
        a.oid, a.rolcanlogin, a.rolpassword, a.rolconnlimit, a.rolsuper,
        coalesce(a.rolvaliduntil < pg_catalog.now(), false),
        (
          select pg_catalog.json_agg(c.entry order by s.setrole, s.setdatabase, c.position)
          from pg_catalog.pg_db_role_setting as s
          cross join lateral pg_catalog.unnest(s.setconfig) with ordinality as c (entry, position)
          where s.setrole in (0, a.oid)
          and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database as d where d.datname = ${literal(DATABASE)}))
        )
      from pg_catalog.pg_authid as a
      where a.rolname = ${literal(name)}
    `),
  );
  const row = rows[0];
  if (row === undefined) return null;
  const [oid, canLogin, password = null, limit, superuser, expired, settings] = row;
  return {
    name,
    oid: Number(oid),
    canLogin: canLogin === "t",
    password,
    connectionLimit: Number(limit),
    superuser: superuser === "t",
    expired: expired === "t",
    settings: JSON.parse(settings ?? "[]") as string[],
  };
}

/** Runs one SCRAM exchange. True if the client proved that it knows the password. */
async function exchange(stream: MessageStream, scram: ScramExchange): Promise<boolean> {
  stream.write(encode("R", int32(10), "SCRAM-SHA-256\0\0"));
  const initial = await nextPassword(stream);
  const mechanism = cstring(initial, 5);
  if (mechanism.text !== "SCRAM-SHA-256") throw violation("client selected an invalid SASL authentication mechanism");
  const serverFirst = scram.first(initial.toString("utf8", mechanism.end + 4));
  if (serverFirst === null) throw violation("malformed SCRAM message");
  stream.write(encode("R", int32(11), serverFirst));

  const serverFinal = scram.final((await nextPassword(stream)).toString("utf8", 5));
  if (serverFinal === null) return false;
  stream.write(encode("R", int32(12), serverFinal));
  return true;
}

async function nextPassword(stream: MessageStream): Promise<Buffer> {
  const message = await stream.next(MAX_STARTUP_BYTES);
  if (message === null) throw new FatalError("08006", "the client disconnected during authentication");
  if (typeOf(message) !== "p") throw violation(`expected SASL response, got message type ${message[0] ?? 0}`);
  return message;
}

const violation = (message: string): FatalError => new FatalError("08P01", message);
