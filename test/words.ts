// Words that a field engineer would not use, and what to write instead: npm run words. Part of npm run check.
//
// Prints path:line: the words found => what to write. Exits with 1 if there are any. Left out are the copy of the campaign
// library, which is written to customers, and SendGrid's own messages.
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

interface Rule {
  readonly words: RegExp;
  readonly write: string;
}

const rules: readonly Rule[] = [
  { words: /\breckon(?:s|ed|ing)?\b/i, write: "compute, count" },
  { words: /\bmend(?:s|ed|ing)?\b/i, write: "fix, correct" },
  { words: /\banew\b/i, write: "again, from the start" },
  { words: /\btold\b/i, write: "reported, notified" },
  { words: /\btells?\b(?! (?:apart|them apart))/i, write: "report, show, say which" },
  { words: /\bnobody's\b/i, write: "of no tenant, unknown" },
  { words: /\bcrosswise\b/i, write: "deadlock" },
  { words: /\balarm clocks?\b/i, write: "wake-up job" },
  { words: /(?<!\bthere )\b(?:is|are|was|were) none\b/i, write: "does not exist" },
  {
    words: /\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|later\b|earlier\b|one\b|need\b|room\b|way\b)[a-z]/i,
    write: "is not a, does not have",
  },
  { words: /\bin (?:other |our )?hands?\b/i, write: "in flight" },
  { words: /\b(?:go|goes|went) on meanwhile\b/i, write: "keep working" },
  { words: /\bstand-?ins?\b/i, write: "simulator" },
  { words: /\bMOST_/, write: "MAX_" },
  { words: /\bsign of life\b/i, write: "liveness" },
  { words: /\btakes? leave\b/i, write: "deregister" },
  { words: /\bhostile review\b/i, write: "say what was fixed" },
  { words: /\blast words?\b/i, write: "latest consent; abort grace" },
  { words: /\bspeaks? of\b/i, write: "refer to" },
  { words: /\bring(?:s|ing)? for\b|\brung\b/i, write: "wake, queued" },
  { words: /\bstandstill\b/i, write: "pause" },
  { words: /\bof its own accord\b|\bby and by\b|\bever since\b/i, write: "plain words" },
  { words: /\bwhat is (?:ours|theirs)\b/i, write: "name the thing" },
  {
    words: /\bcomes? to nothing\b|\bhelps nobody\b|\bfor good\b|\bhenceforth\b|\bthereby\b/i,
    write: "permanently; say the effect",
  },
  { words: /\bkeeps? promises\b|\bits promise\b/i, write: "say the guarantee" },
  { words: /\bhear(?:s|d)? of\b/i, write: "is not received; counts" },
  { words: /\bbut for\b/i, write: "except" },
  { words: /\bsa(?:ys?|id) of\b/i, write: "reports about" },
  { words: /\b(?:became|becomes?|came|comes?) of\b/i, write: "happened to; the result" },
  { words: /\bstands? alone\b/i, write: "is independent" },
  { words: /\bmay pass\b|\bpassing (?:error|trouble)\b/i, write: "transient" },
  { words: /\bout of reach\b|\b(?:Postgres|server|it) is away\b/i, write: "unreachable" },
  { words: /, for (?:it|they|he|she|we|there)\b/i, write: "because" },
  { words: /\bsurely\b/i, write: "certainly" },
  { words: /\bas things stand\b|\ball the same\b|\bwhosever\b/i, write: "now; nevertheless; of which" },
];

const files = globSync(["sql/**/*.{sql,md}", "src/**/*.{ts,md}", "tasks/*.ts", "test/**/*.{ts,md}", "*.md"], {
  cwd: root,
})
  .filter(
    (path) =>
      !/^(?:test\/words\.ts|sql\/after\/\d+-campaign-library\.sql|src\/simulator\/sendgrid\/schema-errors\.ts)$/.test(
        path,
      ),
  )
  .toSorted();

let hits = 0;
for (const path of files) {
  for (const [index, line] of readFileSync(new URL(`../${path}`, import.meta.url), "utf8")
    .split("\n")
    .entries()) {
    for (const { words, write } of rules) {
      const found = words.exec(line);
      if (found === null) continue;
      hits += 1;
      process.stdout.write(`${path}:${index + 1}: ${found[0]} => ${write}\n`);
    }
  }
}
process.stdout.write(`${hits} hits in ${files.length} files\n`);
process.exitCode = hits === 0 ? 0 : 1;
