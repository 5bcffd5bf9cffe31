// Writes test/schema.sql: npm run schema, after a migration.
import { writeFile } from "node:fs/promises";
import { startEmbedded } from "../src/db/embedded/index.ts";
import { migrate } from "../src/db/migrate/index.ts";
import { dumpSchema } from "./support/schema.ts";

const embedded = await startEmbedded({ dataDir: "memory", auth: "trust" });
await migrate({ connectionString: embedded.url });
const dataDir = await embedded.dump();
await embedded.close();
await writeFile(new URL("schema.sql", import.meta.url), await dumpSchema(dataDir));
