// `brainops leads import` as a person runs it: a file with good and bad lines, twice.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readLead } from "../../src/revenue/leads/fields.ts";
import { importLeads, type ImportCounts, type ImportOptions } from "../../src/revenue/leads/importFile.ts";
import { brainops, type Ran } from "../cli/run.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { asWorker } from "../support/jobs.ts";

let db: TestDatabase;
let folder: string;
beforeAll(async () => {
  db = await createTestDatabase();
  folder = await mkdtemp(join(tmpdir(), "brainops-import-"));
});
afterAll(async () => {
  await db?.close();
  await rm(folder, { recursive: true, force: true });
});

async function runImport(
  content: string | Buffer,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Ran> {
  const file = join(folder, "leads.csv");
  await writeFile(file, content);
  return brainops(["leads", "import", file, "--tenant", "tenant-a", ...args], { DATABASE_URL: db.url, ...env });
}

/** The same without a process, as the seat. */
async function importText(
  chunks: Iterable<string> | AsyncIterable<string>,
  options: Partial<ImportOptions> = {},
): Promise<ImportCounts> {
  return importLeads(Readable.from(chunks), {
    client: await db.connect("service"),
    tenantId: db.tenantA,
    place: { country: "US", timeZone: "UTC" },
    source: "import",
    file: "leads.csv",
    delimiter: ",",
    onRejected: (line) => expect(line).toBeNull(),
    ...options,
  });
}

const people = (pattern: string) =>
  db.query<{ email: string; phone_e164: string | null }>(
    "select email, phone_e164 from revenue_leads where tenant_id = $1 and email like $2 order by email",
    [db.tenantA, pattern],
  );

const mixed = [
  "Name,E-Mail,Phone,Stage,Budget,Email consent,SMS consent",
  "Ann,ann@file.example,(303) 555-0101,WON,high,yes,yes",
  "Bob,bob at file.example,,,,,",
  '"Cat, the ""Second""",cat@file.example,+44 20 7946 0958,replied,5000,no,',
  "Dan,dan@file.example,,thinking about it,,,",
  "Eve,eve@file.example",
  "Ann again,ANN@FILE.EXAMPLE,,,,,",
  "",
  "Fay,,,,,,",
  "Gus,gus@file.example,12,,,maybe,",
].join("\n");

describe("a file with good and bad lines", () => {
  it("imports the good ones, and reports line, value and expectation of each bad one", async () => {
    const rejects = join(folder, "rejects.csv");
    const { code, stdout, stderr } = await runImport(mixed, ["--rejects", rejects]);
    expect(stdout).toMatch(/leads\.csv +3 +1 +4 +1/);
    expect(code).toBe(1);
    for (const line of [
      /^line 3: email: "bob at file\.example"; expected one e-mail address/m,
      /^line 5: stage: "thinking about it"; expected .*nurturing/m,
      /^line 6: line: expected 7 fields as in the header, found 2$/m,
      /^line 9: email: expected an e-mail address or a phone number$/m,
      /^line 10: left out: phone: "12"; expected a phone number .*; email_consent: "maybe"; expected yes or no$/m,
    ]) {
      expect(stderr).toMatch(line);
    }
    expect(await people("%@file.example")).toEqual([
      { email: "ann@file.example", phone_e164: "+13035550101" },
      { email: "cat@file.example", phone_e164: "+442079460958" },
      { email: "gus@file.example", phone_e164: null },
    ]);
    const written = await readFile(rejects, "utf8");
    expect(written.split("\n")[0]).toBe(
      "rejected_line,rejected_because,Name,E-Mail,Phone,Stage,Budget,Email consent,SMS consent",
    );
    expect(written.trim().split("\n")).toHaveLength(6);

    // The file of rejected lines can be imported once it is corrected.
    const corrected = written.replaceAll("bob at file", "bob@file").replaceAll("thinking about it", "contacted");
    await runImport(corrected);
    expect((await people("%@file.example")).map(({ email }) => email)).toEqual([
      "ann@file.example",
      "bob@file.example",
      "cat@file.example",
      "dan@file.example",
      "gus@file.example",
    ]);
  });

  it("changes nothing when it is imported again", async () => {
    const state = () =>
      Promise.all(
        ["revenue_leads", "lead_events", "revenue_lead_aliases", "contact_consents"].map((table) =>
          db.query(`select * from ${table} where tenant_id = $1 order by id`, [db.tenantA]),
        ),
      );
    await runImport(mixed);
    const before = await state();
    const { stdout } = await runImport(mixed);
    expect(stdout).toMatch(/leads\.csv +0 +4 +4 +1/);
    expect(await state()).toEqual(before);
  });

  it("records its consents, and never overrides a later one", async () => {
    const consent = (channel: string, address: string) =>
      db.query("select brainops.consent_state($1, $2, $3) as state", [db.tenantA, channel, address]);
    expect(await consent("email", "ann@file.example")).toEqual([{ state: "granted" }]);
    expect(await consent("sms", "+13035550101")).toEqual([{ state: "granted" }]);
    expect(await consent("email", "cat@file.example")).toEqual([{ state: "denied" }]);
    expect(
      await db.query(
        "select source, evidence from contact_consents where address = 'ann@file.example' and channel = 'email'",
      ),
    ).toEqual([{ source: "import", evidence: { file: "leads.csv", line: 2 } }]);
    await db.as(
      "tenantA",
      "insert into contact_consents (channel, address, state, source) values ('email', 'ann@file.example', 'denied', 'client')",
    );
    await runImport(mixed);
    expect(await consent("email", "ann@file.example")).toEqual([{ state: "denied" }]);
  });

  it("scores new leads", async () => {
    const waiting = await db.query<{ n: number }>(
      "select count(*)::int as n from graphile_worker.jobs where task_identifier = 'lead__score'",
    );
    expect(waiting[0]?.n).toBeGreaterThan(0);
    await db.as(
      "worker",
      "select brainops_internal.score_leads(array(select id from revenue_leads where email like '%file.example'))",
    );
    expect(await db.query("select score::float8 as score from revenue_leads where email = 'ann@file.example'")).toEqual(
      [{ score: 95 }],
    );
  });
});

describe("a file that cannot be imported", () => {
  it.for([
    [
      "without a column that identifies a lead",
      "name,city\nAnn,Denver\n",
      "column email or phone is missing; found: name, city",
    ],
    ["that is empty", "", "the file is empty"],
  ] as const)("%s is refused with a message", async ([, content, text]) => {
    await expect(importText([content])).rejects.toMatchObject({
      code: "OP013",
      message: expect.stringContaining(text),
    });
  });

  it.for([
    ["with a separator of its own", "email#name\na@x.example#Ann\n", '--delimiter ";"'],
    ["in Latin-1", Buffer.from("email,name\na@x.example,Jos\u00e9\n", "latin1"), "is not in UTF-8"],
  ] as const)("%s is refused with a hint", async ([, content, text]) => {
    const { code, stdout, stderr } = await runImport(content);
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toContain(text);
  });

  it("is named, and so is an unknown tenant", async () => {
    const file = join(folder, "nothing.csv");
    const gone = await brainops(["leads", "import", file, "--tenant", "tenant-a"], { DATABASE_URL: db.url });
    expect(gone.code).toBe(1);
    expect(gone.stderr).toContain("ENOENT");
    const unknown = await brainops(["leads", "import", file, "--tenant", "nobody"], { DATABASE_URL: db.url });
    expect(unknown.code).toBe(1);
    expect(unknown.stderr).toContain('"nobody"');
  });
});

describe("a file that another program wrote", () => {
  it.for([
    [
      "Outlook",
      "First Name,Last Name,Company,Mobile Phone,Business Phone,E-mail Address\nAnn,Archer,Archer Ltd,+13035550141,+13035550142,o@exports.example\n",
      { contact_name: "Ann Archer", company_name: "Archer Ltd", phone: "+13035550141" },
    ],
    [
      "Google",
      "First Name,Last Name,Organization Name,E-mail 1 - Value,E-mail 2 - Value,Phone 1 - Value\nAnn,Archer,,g@exports.example,g2@exports.example,+13035550143\n",
      { contact_name: "Ann Archer", phone: "+13035550143" },
    ],
    [
      "Salesforce",
      "First Name,Last Name,Company / Account,Phone,Mobile,Email,Lead Source\nAnn,Archer,Archer Ltd,,+13035550144,s@exports.example,fair\n",
      { contact_name: "Ann Archer", company_name: "Archer Ltd", phone: "+13035550144", source: "fair" },
    ],
    [
      "Mailchimp",
      "Email Address,First Name,Last Name,Phone Number,MEMBER_RATING,TAGS\nm@exports.example,Ann,Archer,,2,vip\n",
      { contact_name: "Ann Archer" },
    ],
    [
      "a German Excel",
      "sep=;\r\nVorname;Name;E-Mail-Adresse;Firma;Telefon\r\nHans;Meier;x@exports.example;Meier GmbH;+49301234567\r\n",
      { contact_name: "Hans Meier", company_name: "Meier GmbH", phone: "+49301234567" },
    ],
    ["a tool with tabs", "E-Mail\tTag\tTag\nt@exports.example\tone\ttwo\n", { metadata: { tag: "one", tag_2: "two" } }],
  ] as const)("%s is read without flags", async ([, content, expected]) => {
    expect(await importText([content], { delimiter: null })).toMatchObject({ new: 1, rejected: 0, incomplete: 0 });
    const [lead] = await db.query(
      "select contact_name, company_name, phone, source, metadata from revenue_leads where email like '%@exports.example' order by created_at desc limit 1",
    );
    expect(lead).toMatchObject(expected);
  });

  it("keeps what a second column of the same meaning has, and never lets it replace the first", async () => {
    await importText(["email,E-Mail,Phone,Mobile\na@both.example,b@both.example,+13035550151,+13035550152\n"]);
    expect(await db.query("select email, phone, metadata from revenue_leads where email like '%both.example'")).toEqual(
      [
        {
          email: "a@both.example",
          phone: "+13035550151",
          metadata: { e_mail: "b@both.example", mobile: "+13035550152" },
        },
      ],
    );
  });

  it("says where each column goes, and takes headings by --map", async () => {
    const text = "Elektropost,Vorname,Note,Intern\na@map.example,Ann,x,y\n";
    expect((await runImport(text)).stderr).toContain("column email or phone is missing");
    const map = ["--map", "Elektropost=email", "--map", "Intern=-", "--map", "Note=metadata.grade"];
    const { code, stderr } = await runImport(text, map);
    expect([code, stderr]).toEqual([
      0,
      expect.stringContaining(
        "columns: Elektropost -> email; Vorname -> contact_name; Note -> metadata.grade; Intern is left out",
      ),
    ]);
    expect(await db.query("select contact_name, metadata from revenue_leads where email = 'a@map.example'")).toEqual([
      { contact_name: "Ann", metadata: { first_name: "Ann", grade: "x" } },
    ]);
    expect((await runImport(text, ["--map", "Nope=email"])).stderr).toContain('the file has no column "Nope"');
    expect((await runImport(text, ["--map", "Elektropost=mailbox"])).stderr).toContain('"mailbox" is not a column');
  });

  it("is reported and not stored by --dry-run", async () => {
    const text = "email\na@dry.example\nbad\n";
    const { code, stdout, stderr } = await runImport(text, ["--dry-run"]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("nothing was stored")]);
    expect(stdout).toMatch(/leads\.csv +1 +0 +1/);
    expect(await people("%dry.example")).toEqual([]);
    await runImport(text);
    expect(await people("%dry.example")).toHaveLength(1);
  });

  it("has its rejected lines written with its own separator", async () => {
    const rejects = join(folder, "semicolons.csv");
    await runImport("email;name\nbad;Ann\n", ["--rejects", rejects]);
    expect((await readFile(rejects, "utf8")).split("\n")[0]).toBe("rejected_line;rejected_because;email;name");
    const corrected = (await readFile(rejects, "utf8")).replace('"bad"', "").replace(";bad;", ";good@semi.example;");
    expect((await runImport(corrected, ["--delimiter", ";"])).stdout).toMatch(/leads\.csv +1 +0 +0/);
  });
});

it("imports everything before a quote that is never closed, and reports its line", async () => {
  const { code, stdout, stderr } = await runImport(
    'email,name\na@quote.example,Ann\nb@quote.example,"Bob\nc@quote.example,Cat\n',
  );
  expect(code).toBe(1);
  expect(stdout).toMatch(/leads\.csv +1 +0 +1/);
  expect(stderr).toContain("line 3: line: expected a closing quote");
  expect(await people("%@quote.example")).toHaveLength(1);
});

it("accepts the same values for yes as brainops_internal.is_yes", async () => {
  const answers = ["true", "T", "Yes", "y", "1", "on", "x", "ja", "Si", "OUI", "no", "f", "0", "off", "nein", "2"];
  const rows = await db.query<{ answer: string; is_yes: boolean }>(
    "select answer, brainops_internal.is_yes(answer) as is_yes from unnest($1::text[]) as a (answer)",
    [answers],
  );
  const read = (answer: string) =>
    readLead(
      [
        ["email", "a@x.example"],
        ["email_consent", answer],
      ],
      { country: "US", timeZone: "UTC" },
    ).lead;
  expect(rows.filter(({ answer, is_yes }) => (read(answer)?.["email_consent"] === true) !== is_yes)).toEqual([]);
  expect(rows.filter(({ is_yes }) => is_yes)).toHaveLength(10);
});

it("accepts stdin, tabs and a source, and a tenant's own login for its own leads only", async () => {
  const args = ["leads", "import", "-", "--delimiter", "\\t", "--source", "fair", "--tenant"];
  const text = "email\tsource\na@tab.example\t\nb@tab.example\tfriend\n";
  const own = await brainops([...args, "tenant-a"], { DATABASE_URL: db.urlOf("tenantA") }, text);
  expect([own.code, own.stderr.includes("rejected")]).toEqual([0, true]);
  expect(await db.query("select email, source from revenue_leads where email like '%tab.example' order by 1")).toEqual([
    { email: "a@tab.example", source: "fair" },
    { email: "b@tab.example", source: "friend" },
  ]);
  const other = await brainops([...args, "tenant-b"], { DATABASE_URL: db.urlOf("tenantA") }, text);
  expect(other.code).toBe(1);
  const forged = db.as(
    "tenantA",
    'select * from brainops.import_leads($1, \'[{"line": 2, "lead": {"email": "x@x.example"}}]\')',
    [db.tenantB],
  );
  await expect(forged).rejects.toMatchObject({ code: "42501" });
});

it("queues scoring for leads of its own tenant only", async () => {
  const [lead] = await db.query<{ id: string }>(
    "insert into revenue_leads (tenant_id, email) values ($1, 'waits@score.example') returning id",
    [db.tenantB],
  );
  await db.query("update revenue_leads set rescore_requested_at = now() where id = $1", [lead?.id]);
  await db.query("select graphile_worker.complete_jobs(array(select id from graphile_worker.jobs))");
  const worker = await db.connect("worker");
  const release = (tenantId: string): Promise<unknown> =>
    asWorker(worker, tenantId, () =>
      worker.query("select brainops_internal.release_rescores($1, array[$2::uuid])", [db.tenantB, lead?.id]),
    );
  const jobs = (): Promise<unknown[]> =>
    db.query("select from graphile_worker.jobs where task_identifier = 'lead__score'");
  await release(db.tenantA);
  expect(await jobs()).toEqual([]);
  await release(db.tenantB);
  expect(await jobs()).toHaveLength(1);
});

it("imports a long file in parts, with one scoring job for many leads", async () => {
  const lines = 1100;
  async function* text(): AsyncGenerator<string> {
    yield "email,phone,company\n";
    for (let i = 0; i < lines; i++) yield `p${i}@long.example,+1303${5_550_000 + i},Corp ${i}\n`;
  }
  const jobs = async (): Promise<number> =>
    (await db.query("select from graphile_worker.jobs where task_identifier = 'lead__score'")).length;
  const before = await jobs();
  const progress: number[] = [];
  const counts = await importText(text(), { onProgress: (so) => progress.push(so.new) });
  expect(counts).toEqual({ new: lines, known: 0, rejected: 0, incomplete: 0 });
  expect(progress).toEqual([500, 1000, 1100]);
  expect((await jobs()) - before).toBe(3);
});

it.skipIf(!isServer)("concurrent imports of one file create each person once (needs server processes)", async () => {
  const lines = Array.from({ length: 120 }, (_, i) => `p${i}@twice.example,+1720${5_550_000 + i}\n`);
  const run = (order: readonly string[]) => importText(["email,phone\n", ...order]);
  const counts = await Promise.all([run(lines), run(lines.toReversed()), run(lines)]);
  expect(counts.reduce((sum, one) => sum + one.new, 0)).toBe(120);
  expect(await people("%@twice.example")).toHaveLength(120);
});
