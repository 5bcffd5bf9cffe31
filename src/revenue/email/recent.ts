// What was made of texts lately, kept because campaigns say the same to many.

/** Returns a function that makes something of a text, or has it still. Keeps what was asked for last, up to so many characters of text. */
export function createRecent<Value>(make: (text: string) => Value, mostCharacters: number): (text: string) => Value {
  const known = new Map<string, Value>();
  let characters = 0;
  return (text) => {
    let value = known.get(text);
    if (value === undefined) {
      value = make(text);
      characters += text.length;
    } else known.delete(text);
    known.set(text, value);
    for (const oldest of known.keys()) {
      if (characters <= mostCharacters) break;
      known.delete(oldest);
      characters -= oldest.length;
    }
    return value;
  };
}
