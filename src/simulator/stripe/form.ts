// Bodies and queries of the v1 API: application/x-www-form-urlencoded, with brackets for nested values.

/** The parsed parameters. Lists have their positions as names; the schema turns them into lists. */
export interface Form {
  [name: string]: string | Form;
}

/** Null if the brackets contradict each other, e.g. one name that is both a text and an object. */
export function parseForm(text: string): Form | null {
  const form = emptyForm();
  for (const [name, value] of new URLSearchParams(text)) {
    const path = pathOf(name);
    if (path === null || !put(form, path, value)) return null;
  }
  return form;
}

/** `a[b][0]` -> a, b, 0; `a[]` ends in an empty part. */
function pathOf(name: string): string[] | null {
  const parts = /^([^[\]]+)((?:\[[^[\]]*\])*)$/.exec(name);
  if (parts === null) return null;
  const [, first = "", rest = ""] = parts;
  return [first, ...[...rest.matchAll(/\[([^[\]]*)\]/g)].map(([, part]) => part ?? "")];
}

function put(form: Form, path: readonly string[], value: string): boolean {
  let place = form;
  for (const [depth, part] of path.entries()) {
    const name = part === "" ? String(Object.keys(place).length) : part;
    if (depth === path.length - 1) {
      if (typeof place[name] === "object") return false;
      place[name] = value;
      return true;
    }
    const inner = place[name] ?? emptyForm();
    if (typeof inner === "string") return false;
    place[name] = inner;
    place = inner;
  }
  return false;
}

/** Without a prototype, because a parameter may have any name. */
function emptyForm(): Form {
  return Object.create(null) as Form;
}

/** Equal for equal parameters in any order. */
export function fingerprint(form: Form): string {
  const sorted = (value: string | Form): unknown =>
    typeof value === "string"
      ? value
      : Object.keys(value)
          .toSorted()
          .map((name) => [name, sorted(value[name] ?? "")]);
  return JSON.stringify(sorted(form));
}
