// Lexical rules of SQL: as many as are needed to search a file for what it creates.

const token =
  /--[^\n]*|\/\*[\s\S]*?\*\/|\b[eE]'(?:[^'\\]|\\[\s\S])*'|'[^']*'|"[^"]*"|\$(?<tag>(?:[A-Za-z_]\w*)?)\$(?<body>[\s\S]*?)\$\k<tag>\$/g;

/** The text with each comment replaced by a blank, in the bodies of functions too. Strings are kept. */
export function withoutComments(text: string): string {
  return text.replaceAll(token, (match: string, ...more: unknown[]) => {
    if (match.startsWith("--") || match.startsWith("/*")) return " ";
    const { tag, body } = more.at(-1) as { readonly tag?: string; readonly body?: string };
    return body === undefined ? match : `$${tag}$${withoutComments(body)}$${tag}$`;
  });
}

/** The text without the bodies of its functions and do blocks, and without other dollar-quoted text. */
export function withoutBodies(text: string): string {
  return text.replaceAll(token, (match) => (match.startsWith("$") ? "''" : match));
}
