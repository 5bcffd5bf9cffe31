#!/usr/bin/env node
// The executable. Checks Node's version before it loads files that an old Node could not parse.
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `brainops needs Node 22.18 or newer; this is ${process.versions.node}. ` +
      "Install a newer Node, or use the npm scripts in a checkout (npm ci installs a suitable Node).\n",
  );
  process.exit(78);
}
// `brainops status | head` closes the pipe early, which is not an error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});
const { main } = await import("./main.ts");
await main(process.argv);
