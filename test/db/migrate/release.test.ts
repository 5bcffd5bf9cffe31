import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { compareReleases, releaseProblem } from "../../../src/db/migrate/index.ts";
import { version } from "../../../src/version.ts";
import { isServer } from "../../support/database.ts";
import { createFixture, type Fixture } from "./fixture.ts";

describe("compareReleases", () => {
  it("orders releases by number, not by text, and previews before their release", () => {
    const ascending = [
      "0.2.0",
      "0.2.9",
      "0.2.10",
      "0.10.0-alpha",
      "0.10.0-alpha.1",
      "0.10.0-alpha.beta",
      "0.10.0-beta.2",
      "0.10.0-beta.11",
      "0.10.0-rc.1",
      "0.10.0",
      "1.0.0",
      "10.0.0",
    ];
    for (const [i, a] of ascending.entries()) {
      for (const [j, b] of ascending.entries())
        expect([a, b, Math.sign(compareReleases(a, b))]).toEqual([a, b, Math.sign(i - j)]);
    }
  });

  it("does not count build metadata", () => expect(compareReleases("1.0.0+abc", "1.0.0+def")).toBe(0));

  it.each(["", "1", "1.2", "v1.2.3", "1.2.3.4", "unknown"])("refuses %j, which is not a release", (text) => {
    expect(() => compareReleases(text, "1.0.0")).toThrow(`"${text}" is not a release`);
  });
});

describe("releaseProblem", () => {
  const stored = { release: "0.4.0", oldestProgram: "0.3.0" };
  it.each([
    ["0.2.9", "too old", /0\.2\.9.*needs 0\.3\.0 or newer.*deploy release 0\.4\.0/],
    ["0.4.1", "not migrated", /has release 0\.4\.0.*is 0\.4\.1.*run brainops migrate/],
  ])("refuses program %s: %s", (program, kind, text) => {
    expect(releaseProblem(stored, program)).toEqual({ kind, text: expect.stringMatching(text) });
  });

  it("names a release that fits where the migration to it has not ended", () => {
    expect(releaseProblem({ release: "0.2.0", oldestProgram: "0.3.0" }, "0.2.0")?.text).toMatch(
      /deploy release 0\.3\.0$/,
    );
  });

  it.each(["0.3.0", "0.3.9", "0.4.0"])("accepts program %s", (program) => {
    expect(releaseProblem(stored, program)).toBeNull();
  });

  it.each([null, { release: null, oldestProgram: "0.0.0" }])("treats %j as a database that is not migrated", (row) => {
    expect(releaseProblem(row, "0.0.1")).toEqual({
      kind: "not migrated",
      text: "the database is not migrated; run brainops migrate",
    });
  });
});

describe.skipIf(!isServer)("the release of a database (needs a server with several databases)", () => {
  let world: Fixture;
  beforeEach(async () => {
    world = await createFixture();
  });
  afterEach(() => world.close());

  const stored = (): Promise<object[]> => world.ask("select release, oldest_program from brainops.release");

  it("is the program's own after a migration, which any program may use", async () => {
    await world.run();
    expect(await stored()).toEqual([{ release: version, oldest_program: "0.0.0" }]);
  });

  it("increases; a lower one is refused and changes nothing", async () => {
    await world.run({ release: "0.9.0" });
    await world.run({ release: "0.10.0" });
    await world.write("functions/more.sql", "create or replace function brainops.more() returns int return 1;\n");
    await expect(world.run({ release: "0.9.1" })).rejects.toThrow(
      /This program is release 0\.9\.1, and the database was migrated by 0\.10\.0.*Run brainops migrate from release 0\.10\.0 or newer/,
    );
    expect(await stored()).toEqual([{ release: "0.10.0", oldest_program: "0.0.0" }]);
    expect(await world.ask("select to_regprocedure('brainops.more()') is null as missing")).toEqual([
      { missing: true },
    ]);
    expect(await world.run({ release: "0.10.0" })).toEqual({ applied: ["functions (5 files)"] });
  });

  it("stays the previous one until a migration succeeds, but a lower one than the files applied is refused", async () => {
    await world.run({ release: "0.2.0" });
    await world.write("functions/more.sql", "create or replace function brainops.more() returns int return 1;\n");
    await world.write("views/99-bad.sql", "select 1 / 0;\n");
    await expect(world.run({ release: "0.3.0" })).rejects.toThrow("views/99-bad.sql: division by zero");
    expect(await stored()).toEqual([{ release: "0.2.0", oldest_program: "0.0.0" }]);
    await expect(world.run({ release: "0.2.0" })).rejects.toThrow("migrated by 0.3.0");
  });

  it("includes the oldest program that a contracting migration allows, in that migration's transaction", async () => {
    await world.run({ release: "0.2.0" });
    const contract = "update brainops.release set oldest_program = '0.3.0';\n";
    await world.write("0002-contract.sql", `${contract}select 1 / 0;\n`);
    await expect(world.run({ release: "0.3.0" })).rejects.toThrow("0002-contract.sql: division by zero");
    expect(await stored()).toEqual([{ release: "0.2.0", oldest_program: "0.0.0" }]);
    await world.write("0002-contract.sql", contract);
    await world.run({ release: "0.3.0" });
    expect(await stored()).toEqual([{ release: "0.3.0", oldest_program: "0.3.0" }]);
  });
});
