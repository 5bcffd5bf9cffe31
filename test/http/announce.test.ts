// What a server says of an announcement that failed: whoever runs it has to see that links lead nowhere yet.
import pg from "pg";
import { pino } from "pino";
import { expect, it } from "vitest";
import { announcePublicUrl } from "../../src/http/announce.ts";

it("an announcement that failed is a warning", async () => {
  const said = Promise.withResolvers<string>();
  const log = pino({ level: "warn" }, { write: said.resolve });
  // Nobody listens there.
  const pool = new pg.Pool({ connectionString: "postgres://nobody@127.0.0.1:1/none" });
  const announce = announcePublicUrl(pool, "https://ops.example", log);
  announce.begin();
  try {
    expect(JSON.parse(await said.promise)).toMatchObject({ msg: "could not store PUBLIC_URL; will retry" });
  } finally {
    announce.stop();
    await pool.end();
  }
});
