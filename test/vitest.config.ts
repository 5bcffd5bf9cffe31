import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// Each file has a database of its own, so files run in parallel. The tests of a file share its database.
// Fault tests run last and one file at a time, because some of them restart the server.
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  test: {
    globalSetup: ["test/support/globalSetup.ts"],
    reporters: ["default", "./test/support/reporter.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 120_000,
    disableConsoleIntercept: true,
    projects: [
      {
        extends: true,
        test: {
          name: "rules",
          include: ["test/**/*.test.ts"],
          exclude: ["test/faults/**"],
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: "faults", include: ["test/faults/*.test.ts"], maxWorkers: 1, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
