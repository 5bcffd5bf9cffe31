// What an SQL text creates: functions, views and triggers, named as in the catalog (catalog.ts).
import { withoutBodies, withoutComments } from "./sqlText.ts";

/** Everything that the text creates, including what its functions create when they run. */
export function definitionsIn(text: string): string[] {
  return definitions(withoutComments(text));
}

/** What the text creates when it is applied, without what its functions create when they run. */
export function appliedDefinitionsIn(text: string): string[] {
  return definitions(withoutBodies(withoutComments(text))).filter((name) => !name.endsWith(ANY_TABLE));
}

const ANY_TABLE = " on any table";

/** The name of a trigger if the text does not say on which table it is. */
export function onAnyTable(trigger: string): string {
  return trigger.replace(/ on \S+$/, ANY_TABLE);
}

function definitions(text: string): string[] {
  const functions = text.matchAll(
    /\bcreate\s+(?:or\s+replace\s+)?(?:function|procedure|aggregate)\s+(\w+\.\w+)\s*\(/gi,
  );
  const views = text.matchAll(/\bcreate\s+(?:or\s+replace\s+)?(?:materialized\s+)?view\s+(\w+\.\w+)/gi);
  const triggers = text.matchAll(
    /\bcreate\s+(?:or\s+replace\s+)?(?:constraint\s+)?trigger\s+(\w+)\s+(?:before|after|instead\s+of)\b[\s\S]*?\bon\s+(\S+)/gi,
  );
  return [
    ...[...functions].map((match) => {
      const [head, name] = match;
      return `function ${name}(${inputTypes(text, match.index + head.length).join(", ")})`;
    }),
    ...[...views].map(([, name]) => `view ${name}`),
    ...[...triggers].map(([, name, table = ""]) =>
      /^\w+\.\w+$/.test(table) ? `trigger ${name} on ${table}` : `trigger ${name}${ANY_TABLE}`,
    ),
  ];
}

/** Types of the input arguments in the list whose opening bracket is just before the index. */
function inputTypes(text: string, start: number): string[] {
  const args: string[] = [""];
  let depth = 1;
  for (const [piece] of text.slice(start).matchAll(/'[^']*'|[\s\S]/g)) {
    if (piece === "(" || piece === "[") depth += 1;
    if (piece === ")" || piece === "]") depth -= 1;
    if (depth === 0) break;
    if (piece === "," && depth === 1) args.push("");
    else args[args.length - 1] += piece;
  }
  return args.flatMap((arg) => inputType(arg));
}

// Types of more than one word. An argument without a name begins with its type.
const LONG_TYPE = /^(?:double precision|character varying|bit varying|time(?:stamp)? with(?:out)? time zone)\b/;

/** Empty for an output argument, and for an empty list. */
function inputType(arg: string): string[] {
  const [declared = ""] = arg.toLowerCase().split(/\bdefault\b|:?=/);
  const [, mode, rest = ""] =
    /^(?:(in|out|inout|variadic)\s+)?([\s\S]*)$/.exec(declared.trim().replaceAll(/\s+/g, " ")) ?? [];
  if (mode === "out" || rest === "") return [];
  const named = rest.includes(" ") && !LONG_TYPE.test(rest);
  return [typeOf(named ? rest.slice(rest.indexOf(" ") + 1) : rest)];
}

const ALIASES: Readonly<Record<string, string>> = {
  bool: "boolean",
  char: "character",
  decimal: "numeric",
  float4: "real",
  float8: "double precision",
  int: "integer",
  int2: "smallint",
  int4: "integer",
  int8: "bigint",
  time: "time without time zone",
  timestamp: "timestamp without time zone",
  timestamptz: "timestamp with time zone",
  timetz: "time with time zone",
  varchar: "character varying",
};

/** One spelling for each type: format_type's, without public and the length. */
function typeOf(type: string): string {
  const plain = type
    .replace(/\s*\([^)]*\)/, "")
    .replace(/^(?:public|pg_catalog)\./, "")
    .trim();
  const array = plain.endsWith("[]") ? "[]" : "";
  const element = plain.replaceAll("[]", "").trim();
  return `${ALIASES[element] ?? element}${array}`;
}
