// The separator of a CSV file, read from its first line.

const CANDIDATES = [",", ";", "\t", "|"] as const;

export interface SniffedText {
  readonly delimiter: string;
  /** The whole text. Excel's line "sep=;" is empty in it, so that line numbers stay as they are in the file. */
  readonly text: AsyncIterable<string>;
}

/**
 * Reads the first line that is not empty. Without `wanted`, the separator is the one of Excel's line "sep=…", else the
 * candidate (comma, semicolon, tab, bar) that occurs most often outside quotes in the first line; a comma if none does.
 */
export async function sniffDelimiter(text: AsyncIterable<string>, wanted: string | null): Promise<SniffedText> {
  const chunks = text[Symbol.asyncIterator]();
  let head = "";
  let isDone = false;
  while (!isDone && !/[^\s\uFEFF][^\r\n]*[\r\n]/.test(head) && head.length < 64 * 1024) {
    const { done, value } = await chunks.next();
    isDone = done === true;
    if (!isDone) head += String(value);
  }
  const excel = /^[\s\uFEFF]*"?sep=([^\r\n"])"?[,;\t]*(?=\r|\n|$)/i.exec(head);
  const [line = ""] = /[^\s\uFEFF][^\r\n]*/.exec(head) ?? [];
  return {
    delimiter: wanted ?? excel?.[1] ?? mostFrequent(line),
    text: joined(excel === null ? head : head.slice(excel[0].length), chunks),
  };
}

function mostFrequent(line: string): string {
  const bare = line.replaceAll(/"[^"]*"/g, "");
  const counts = CANDIDATES.map((candidate) => ({ candidate, count: bare.split(candidate).length - 1 }));
  return counts.reduce((most, one) => (one.count > most.count ? one : most)).candidate;
}

async function* joined(head: string, rest: AsyncIterator<string>): AsyncGenerator<string> {
  yield head;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}
