// What a server logs if storing PUBLIC_URL fails: the operator must see that links do not work yet.
import pg from "pg";
import { pino } from "pino";
import { expect, it } from "vitest";
import { announcePublicUrl } from "../../src/http/announce.ts";

it("a failed announcement is logged as a warning", async () => {
  const logged = Promise.withResolvers<string>();
  const log = pino({ level: "warn" }, { write: logged.resolve });
  // No server listens there.
  const pool = new pg.Pool({ connectionString: "postgres://nobody@127.0.0.1:1/none" });
  const announce = announcePublicUrl(pool, "https://ops.example", log);
  announce.begin();
  try {
    expect(JSON.parse(await logged.promise)).toMatchObject({ msg: "could not store PUBLIC_URL; will retry" });
  } finally {
    announce.stop();
    await pool.end();
  }
});
