// Finds the best available Postgres, prints which, and migrates a template that each test file clones.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { migrate } from "../../src/db/migrate/index.ts";
import { startEmbedded } from "../../src/db/embedded/index.ts";
import { findServer, type FoundServer, type RestartCommand } from "./server.ts";
import { onServer } from "./sql.ts";

declare module "vitest" {
  export interface ProvidedContext {
    postgres: ProvidedPostgres;
  }
}

/** What test files receive: a server with a template database, or a snapshot for the built-in Postgres. */
export type ProvidedPostgres =
  | {
      readonly kind: "server";
      readonly url: string;
      readonly template: string;
      readonly restart: RestartCommand | null;
    }
  | { readonly kind: "embedded"; readonly snapshot: string };

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await findServer();
  process.stdout.write(`\nTests run on ${server.description}\n`);
  if (server.kind === "embedded") return setupEmbedded(project);
  return setupServer(project, server);
}

async function setupServer(
  project: TestProject,
  server: FoundServer & { kind: "server" },
): Promise<() => Promise<void>> {
  const template = `brainops_template_${process.pid}_${Date.now().toString(36)}`;
  await onServer(server.url, (client) => client.query(`create database ${template}`));
  await migrate({ connectionString: withDatabase(server.url, template) });
  project.provide("postgres", { kind: "server", url: server.url, template, restart: server.restart });
  return async () => {
    await onServer(server.url, (client) => client.query(`drop database ${template} with (force)`));
    await server.stop();
  };
}

async function setupEmbedded(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "brainops-test-"));
  const snapshot = join(folder, "migrated.tar");
  const embedded = await startEmbedded({ dataDir: "memory", auth: "trust" });
  await migrate({ connectionString: embedded.url });
  const dump = await embedded.dump();
  await writeFile(snapshot, Buffer.from(await dump.arrayBuffer()));
  await embedded.close();
  project.provide("postgres", { kind: "embedded", snapshot });
  return () => rm(folder, { recursive: true, force: true });
}

function withDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}
