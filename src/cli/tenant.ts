// `brainops tenant …`: tenants and their logins, through the SQL interface for admins.
import { randomBytes } from "node:crypto";
import { text as readAll } from "node:stream/consumers";
import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { makeVerifier } from "../db/embedded/scram.ts";
import { BrainOpsError, codeOf } from "../errors.ts";
import { credentialCommand } from "./credential.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { table } from "./terminal.ts";

export function tenantCommand(): Command {
  // exitOverride must precede the subcommands, which inherit it.
  const tenant = new Command("tenant")
    .exitOverride()
    .description("create and list tenants, their logins and credentials");

  tenant
    .command("create <slug> <name>")
    .description("create a tenant; slug is its short name: a-z, 0-9 and -")
    .option("--time-zone <zone>", "IANA name, e.g. America/Denver", "UTC")
    .action(createTenant);
  tenant.command("list").description("list all tenants and their logins").action(listTenants);
  tenant
    .command("login <slug> <login>")
    .description("create a Postgres login for the tenant; prints its password and connection URL, once")
    .option("--password-stdin", "read the password from stdin instead of generating one", false)
    .action(createLogin);
  tenant
    .command("default <slug>")
    .description("make this the default tenant: the tenant of rows that a service inserts without a tenant")
    .action(markDefault);
  tenant.addCommand(credentialCommand());
  return tenant;
}

async function createTenant(slug: string, name: string, flags: { readonly timeZone: string }): Promise<void> {
  const id = await withClient(databaseUrl(), "tenant", async (client) => {
    const { rows } = await client
      .query<{ id: string }>("select brainops.create_tenant($1, $2, $3) as id", [slug, name, flags.timeZone])
      .catch((error: unknown) => {
        throw explained(error, {
          "23505": `tenant ${slug} already exists; choose another slug`,
          tenants_slug_is_short_name: `slug: expected a-z, 0-9 and -, at most 63 characters, found ${JSON.stringify(slug)}`,
          tenants_name_length: "name: expected 1 to 200 characters",
          tenants_time_zone_known: `time zone: Postgres does not know ${JSON.stringify(flags.timeZone)}; expected an IANA name such as America/Denver`,
        });
      });
    return rows[0]?.id ?? "";
  });
  process.stdout.write(`${table(["tenant", "id"], [[slug, id]])}`);
}

async function listTenants(): Promise<void> {
  const rows = await withClient(databaseUrl(), "tenant", async (client) => {
    const result = await client.query<{
      slug: string;
      name: string;
      time_zone: string;
      status: string;
      is_default: boolean;
      logins: string;
    }>(
      `select t.slug, t.name, t.time_zone, t.status, t.is_default, coalesce(string_agg(l.login, ', ' order by l.login), '') as logins
       from public.tenants as t
       left join brainops.tenant_logins as l on l.tenant_id = t.id
       group by t.id
       order by t.slug`,
    );
    return result.rows;
  });
  if (rows.length === 0) {
    process.stdout.write("no tenants yet: brainops tenant create <slug> <name>\n");
    return;
  }
  const cells = rows.map((row) => [
    row.slug,
    row.name,
    row.time_zone,
    row.status,
    row.is_default ? "default" : "",
    row.logins,
  ]);
  process.stdout.write(table(["tenant", "name", "time zone", "status", "", "logins"], cells));
}

async function createLogin(slug: string, login: string, flags: { readonly passwordStdin: boolean }): Promise<void> {
  const connectionString = databaseUrl();
  const password = flags.passwordStdin ? await passwordFromStdin() : randomBytes(24).toString("base64url");
  await withClient(connectionString, "tenant", async (client) => {
    // Sends a verifier: a password would appear in the server's logs.
    const parameters = [slug, login, makeVerifier(password)];
    await client.query("select brainops.create_login($1, $2, $3)", parameters).catch((error: unknown) => {
      throw explained(error, {
        "42710": `login ${login}: a role of this name already exists; choose another name`,
        "42939": `login ${login}: names that begin with pg_ are reserved by Postgres; choose another name`,
        "42501":
          "The login of DATABASE_URL may not create logins: it needs CREATEROLE and membership in brainops_admin.",
      });
    });
  });
  const url = new URL(connectionString);
  url.username = login;
  url.password = flags.passwordStdin ? "" : password;
  const lines = [
    ["tenant", slug],
    ["login", login],
    ...(flags.passwordStdin ? [] : [["password", password]]),
    ["url", url.href],
  ];
  process.stdout.write(lines.map(([name = "", value = ""]) => `${name.padEnd(10)}${value}\n`).join(""));
  if (!flags.passwordStdin) process.stderr.write("Save the password now: it is not stored and not shown again.\n");
}

async function markDefault(slug: string): Promise<void> {
  await withClient(databaseUrl(), "tenant", async (client) => {
    await client.query("begin");
    await client.query("update public.tenants set is_default = false where is_default and slug <> $1", [slug]);
    await client.query("update public.tenants set is_default = true where id = brainops_internal.tenant_id_of($1)", [
      slug,
    ]);
    await client.query("commit");
  });
  process.stdout.write(`${slug} is the default tenant\n`);
}

function databaseUrl(): string {
  return requireDatabaseUrl(loadConfig());
}

/** The password on stdin, without the line break at its end. Throws OP005 unless it is at least 12 printable ASCII characters. */
async function passwordFromStdin(): Promise<string> {
  const password = (await readAll(process.stdin)).replace(/\r?\n$/, "");
  // Other characters need SASLprep (RFC 4013), which clients implement differently.
  if (!/^[\x20-\x7e]{12,}$/.test(password)) {
    throw new BrainOpsError("OP005", "password: expected 12 or more printable ASCII characters on stdin", {
      hint: "Omit --password-stdin to generate a password.",
    });
  }
  return password;
}

/** An error with the message for the constraint or SQLSTATE of `error`; the unchanged error without one. */
function explained(error: unknown, messages: Readonly<Record<string, string>>): unknown {
  const constraint =
    error instanceof Error && "constraint" in error && typeof error.constraint === "string" ? error.constraint : "";
  const message = messages[constraint] ?? messages[codeOf(error) ?? ""];
  return message === undefined ? error : new Error(message, { cause: error });
}
