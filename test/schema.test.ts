// test/schema.sql is the result of all migrations, so that a review of a migration shows its effect.
import { readFile } from "node:fs/promises";
import { expect, inject, it } from "vitest";
import { dumpSchema } from "./support/schema.ts";

const postgres = inject("postgres");

it.skipIf(postgres.kind === "server")(
  "schema.sql is the schema of the built-in Postgres; `npm run schema` writes it",
  async () => {
    if (postgres.kind === "server") throw new Error("dumps differ from version to version");
    const dumped = await dumpSchema(new Blob([await readFile(postgres.snapshot)]));
    expect(dumped).toBe(await readFile(new URL("schema.sql", import.meta.url), "utf8"));
  },
);
