// Counts the segments of a text, which determine its price. A text within the GSM 7-bit alphabet (3GPP
// TS 23.038) is counted in septets, any other in UTF-16 code units. With several segments, each has
// less room because of the header that joins them. A character is never split between segments.

const BASIC =
  "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
  "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/** Encoded with an escape: two septets each. */
const EXTENSION = "\f^{}\\[~]|€";

const septets = new Map([...[...BASIC].map((c) => [c, 1] as const), ...[...EXTENSION].map((c) => [c, 2] as const)]);

export interface Segments {
  readonly encoding: "GSM-7" | "UCS-2";
  readonly count: number;
}

export function segmentsOf(text: string): Segments {
  const characters = [...text];
  const widths = characters.map((character) => septets.get(character));
  return widths.every((width) => width !== undefined)
    ? { encoding: "GSM-7", count: pack(widths, 160, 153) }
    : {
        encoding: "UCS-2",
        count: pack(
          characters.map((character) => character.length),
          70,
          67,
        ),
      };
}

function pack(widths: readonly number[], alone: number, joined: number): number {
  if (widths.reduce((sum, width) => sum + width, 0) <= alone) return 1;
  let count = 1;
  let used = 0;
  for (const width of widths) {
    if (used + width > joined) {
      count += 1;
      used = 0;
    }
    used += width;
  }
  return count;
}
