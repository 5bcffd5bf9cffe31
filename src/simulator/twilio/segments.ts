// How many segments Twilio bills for a text (3GPP TS 23.038). src/revenue/sms counts the expected cost with code of its
// own; test/sms/segments.test.ts compares the two.

const basic = /^[@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&'()*+,\-./0-9:;<=>?¡A-ZÄÖÑÜ§¿a-zäöñüà]$/u;
const extension = /^[\f^{}\\[~\]|€]$/u;

export function billedSegments(text: string): number {
  const characters = [...text];
  const isGsm = characters.every((each) => basic.test(each) || extension.test(each));
  const lengthOf = (each: string): number => (isGsm ? (extension.test(each) ? 2 : 1) : each.length);
  const total = characters.reduce((sum, each) => sum + lengthOf(each), 0);
  const [alone, joined] = isGsm ? [160, 153] : [70, 67];
  if (total <= alone) return 1;
  let [segments, room] = [0, 0];
  for (const each of characters) {
    if (lengthOf(each) > room) [segments, room] = [segments + 1, joined];
    room -= lengthOf(each);
  }
  return segments;
}
