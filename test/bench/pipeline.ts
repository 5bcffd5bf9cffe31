// The revenue pipeline from end to end: claim, contact rules, SendGrid's SDK over HTTP, settle. Uses one
// worker process, the SendGrid simulator in another process, and Postgres.
import { createSigner, postEvents } from "../http/support.ts";
import { loadConfig, type Config } from "../../src/config.ts";
import { startHttpServer } from "../../src/http/server.ts";
import { startWorker } from "../../src/jobs/worker.ts";
import { createLog } from "../../src/telemetry/log.ts";
import type pg from "pg";
import { onServer } from "../support/sql.ts";
import { watchCpu, type CpuSeconds } from "./cpu.ts";
import { startBenchSendgrid } from "./sendgrid.ts";

export interface Figure {
  readonly what: string;
  readonly figure: string;
  readonly target: string;
}

const RECIPIENTS = Number(process.env["BENCH_RECIPIENTS"] ?? 1_000_000);
const SINGLES = Number(process.env["BENCH_SINGLES"] ?? 10_000);
const EVENTS = Number(process.env["BENCH_EVENTS"] ?? 20_000);
const CONCURRENCY = 100;
const CHUNK = 10_000;
const EVENTS_IN_A_POST = 100;
const log = createLog({ level: process.env["BENCH_LOG"] ?? "silent", human: true });
const SUBJECT = "{{ name }}, news of the season";
const BODY = `<h1>Hello {{ name }}</h1><p>${"Here is what we have been up to lately. ".repeat(50)}</p>
  <p>{% if city %}See you in {{ city }}.{% endif %}</p><p><a href="{{ unsubscribe_url }}">No more of these</a></p>`;

export async function measurePipeline(connectionString: string): Promise<Figure[]> {
  const signer = createSigner();
  const sendgrid = await startBenchSendgrid();
  const config = loadConfig({
    SENDGRID_API_KEY: "SG.simulator",
    SENDGRID_BASE_URL: sendgrid.url,
    SENDGRID_WEBHOOK_PUBLIC_KEY: signer.publicKey,
    MAIL_FROM: "Bench <bench@sender.example>",
    PUBLIC_URL: "https://ops.example",
    PORT: "0",
  });
  try {
    const tenantId = await prepareTenant(connectionString);
    return [
      ...(await measureSingles(connectionString, config, tenantId, sendgrid.pid)),
      ...(await measureBroadcast(connectionString, config, tenantId, sendgrid.pid)),
      ...(await measureEvents(connectionString, config, tenantId, signer)),
      ...everyOne(await sendgrid.stats()),
    ];
  } finally {
    sendgrid.stop();
  }
}

function prepareTenant(connectionString: string): Promise<string> {
  return onServer(connectionString, async (client) => {
    const { rows } = await client.query<{ id: string }>("select brainops.create_tenant('mailer', 'Mailer') as id");
    const id = rows[0]?.id ?? "";
    await client.query(`update tenants set settings = settings || '{"postal_address": "1 Main St"}' where id = $1`, [
      id,
    ]);
    // All hours are allowed, so that a bench at night does not wait until the morning.
    await client.query(
      "insert into contact_policies (tenant_id, channel, window_start, window_end) values ($1, 'email', '00:00', '00:00')",
      [id],
    );
    // Counted, but never reached.
    await client.query("insert into brainops.sending_caps (channel, per_hour, per_day) values ('email', 1e9, 1e9)");
    await client.query("select brainops.announce_public_url('https://ops.example')");
    return id;
  });
}

const recipientsOf = (from: number): string => `'p' || (i + ${from}) || '@example.com'`;
const variablesOf = `jsonb_build_object('name', 'Ann ' || i, 'city', case when i % 2 = 0 then 'Denver' end)`;

async function measureSingles(
  connectionString: string,
  config: Config,
  tenantId: string,
  simulatorPid: number,
): Promise<Figure[]> {
  await onServer(connectionString, (client) =>
    client.query(
      `insert into ai_email_queue (tenant_id, recipient, subject, body, metadata, status)
       select $1, ${recipientsOf(0)}, $2, $3, ${variablesOf} || '{"marketing": true}', 'awaiting_approval'
       from generate_series(1, $4::int) as i`,
      [tenantId, SUBJECT, BODY, SINGLES],
    ),
  );
  const cpu = watchCpu(simulatorPid);
  const seconds = await secondsToSend(connectionString, config, (client) =>
    client.query("update ai_email_queue set status = 'pending' where status = 'awaiting_approval'"),
  );
  return [
    { what: "single mails a second, all rules asked", figure: whole(SINGLES / seconds), target: "at least 500" },
    { what: "processor time of each, ms", figure: each(cpu(), SINGLES), target: "" },
  ];
}

/** Seconds from `release`, which makes all rows due in one statement, until all are sent. */
async function secondsToSend(
  connectionString: string,
  config: Config,
  release: (client: pg.Client) => Promise<unknown>,
): Promise<number> {
  return onServer(connectionString, async (client) => {
    // Autovacuum would do this within a minute of the insert.
    await client.query("vacuum analyze");
    const worker = await startWorker({ connectionString, config, log, concurrency: CONCURRENCY });
    try {
      await release(client);
      const began = performance.now();
      await drained(client);
      return (performance.now() - began) / 1000;
    } finally {
      await worker.stop();
    }
  });
}

async function drained(client: pg.Client): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ left: boolean }>(
      `select exists (select from ai_email_queue where status = 'pending')
         or exists (select from ai_email_queue where status = 'processing') as left`,
    );
    if (rows[0]?.left !== true) return;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

async function measureBroadcast(
  connectionString: string,
  config: Config,
  tenantId: string,
  simulatorPid: number,
): Promise<Figure[]> {
  const few = Math.min(RECIPIENTS, 50_000);
  const broadcast = await newBroadcast(connectionString, tenantId, "draft");
  for (let from = 0; from < few; from += CHUNK)
    await addRecipients(connectionString, tenantId, broadcast, from + SINGLES);
  const cpu = watchCpu(simulatorPid);
  const secondsForFew = await secondsToSend(connectionString, config, (client) =>
    client.query("update ai_broadcasts set status = 'active' where id = $1", [broadcast]),
  );

  const cpuForFew = each(cpu(), few);

  const rss: number[] = [];
  const many = await newBroadcast(connectionString, tenantId, "active");
  const began = performance.now();
  await secondsToSend(connectionString, config, async () => {
    for (let from = 0; from < RECIPIENTS; from += CHUNK) {
      await addRecipients(connectionString, tenantId, many, from + few + SINGLES);
      rss.push(process.memoryUsage.rss() / 2 ** 20);
    }
  });
  const secondsForMany = (performance.now() - began) / 1000;
  rss.push(process.memoryUsage.rss() / 2 ** 20);
  const at = (share: number): string => `${whole(rss[Math.floor((rss.length - 1) * share)] ?? 0)} MB`;
  return [
    {
      what: "recipients a second in batches, all rules asked",
      figure: whole(few / secondsForFew),
      target: "at least 5,000",
    },
    { what: "processor time of each, ms", figure: cpuForFew, target: "" },
    {
      what: `${whole(RECIPIENTS)} recipients, filled while they are sent, a second`,
      figure: whole(RECIPIENTS / secondsForMany),
      target: "",
    },
    {
      what: "memory at their first 10,000, their middle, their end",
      figure: [at(0), at(0.5), at(1)].join(", "),
      target: "flat",
    },
  ];
}

function newBroadcast(connectionString: string, tenantId: string, status: string): Promise<string> {
  return onServer(connectionString, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      "insert into ai_broadcasts (tenant_id, subject, body, status) values ($1, $2, $3, $4) returning id",
      [tenantId, SUBJECT, BODY, status],
    );
    return rows[0]?.id ?? "";
  });
}

async function addRecipients(
  connectionString: string,
  tenantId: string,
  broadcastId: string,
  from: number,
): Promise<void> {
  await onServer(connectionString, (client) =>
    client.query(
      `insert into ai_email_queue (tenant_id, broadcast_id, recipient, metadata)
       select $1, $2, ${recipientsOf(from)}, ${variablesOf} from generate_series(1, $3::int) as i`,
      [tenantId, broadcastId, CHUNK],
    ),
  );
}

/** Posts the events in batches of 100, four at a time, like several of SendGrid's servers; then applies them. */
async function measureEvents(
  connectionString: string,
  config: Config,
  tenantId: string,
  signer: ReturnType<typeof createSigner>,
): Promise<Figure[]> {
  const server = await startHttpServer({ config, log, connectionString });
  try {
    const posts = await onServer(connectionString, async (client) => {
      const { rows } = await client.query<{ id: string; recipient: string }>(
        "select id, recipient from ai_email_queue where tenant_id = $1 and status = 'completed' limit $2",
        [tenantId, EVENTS],
      );
      const events = rows.map(({ id, recipient }, index) => ({
        email: recipient,
        bo_msg: id,
        event: index % 4 === 3 ? "open" : "delivered",
        timestamp: Math.floor(Date.now() / 1000),
        sg_event_id: `bench-${index}`,
      }));
      return Array.from({ length: Math.ceil(events.length / EVENTS_IN_A_POST) }, (_, post) =>
        events.slice(post * EVENTS_IN_A_POST, (post + 1) * EVENTS_IN_A_POST),
      );
    });
    const began = performance.now();
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        for (let post = posts.pop(); post !== undefined; post = posts.pop()) {
          const { status } = await postEvents(server, signer, post);
          if (status >= 300) throw new Error(`the webhook answered ${status}`);
        }
      }),
    );
    const recorded = (performance.now() - began) / 1000;
    const applied = await secondsToApply(connectionString, config);
    return [
      {
        what: "webhook events a second, verified and recorded",
        figure: whole(EVENTS / recorded),
        target: "at least 2,000",
      },
      { what: "webhook events a second, applied", figure: whole(EVENTS / applied), target: "at least 2,000" },
    ];
  } finally {
    await server.close();
  }
}

async function secondsToApply(connectionString: string, config: Config): Promise<number> {
  const began = performance.now();
  const worker = await startWorker({ connectionString, config, log, concurrency: 8 });
  try {
    await onServer(connectionString, async (client) => {
      for (;;) {
        const { rows } = await client.query("select from webhook_events where status = 'pending' limit 1");
        if (rows.length === 0) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    });
    return (performance.now() - began) / 1000;
  } finally {
    await worker.stop();
  }
}

function everyOne({ messages, rows, duplicates }: { messages: number; rows: number; duplicates: number }): Figure[] {
  const expected = SINGLES + Math.min(RECIPIENTS, 50_000) + RECIPIENTS;
  const figure = `${whole(messages)} of ${whole(rows)} rows, ${duplicates} twice`;
  return [{ what: "mails that SendGrid took", figure, target: `${whole(expected)}, none twice` }];
}

function each({ postgres, worker, simulator }: CpuSeconds, count: number): string {
  const ms = (seconds: number): string => ((seconds * 1000) / count).toFixed(2);
  return `Postgres ${postgres === null ? "?" : ms(postgres)}, worker ${ms(worker)}, simulator ${ms(simulator)}`;
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en");
}
