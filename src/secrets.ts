// Secrets in texts that others wrote, such as a provider's error: what is kept or shown of such a text is without them.

// By shape and not by value: the text may hold a key that this process does not have, and there may be thousands of
// tenants' keys. A Twilio auth token has no shape of its own; it travels in a Basic header only.
const SHAPES: readonly (readonly [RegExp, string])[] = [
  [/\b(bearer|basic)\s+[\w.~+/=-]{6,}/gi, "$1 …"],
  [/\bSG\.[\w.-]+/g, "SG.…"],
  [/\b((?:sk|rk)_(?:live|test)_|whsec_)[\w+/=-]+/g, "$1…"],
  [/(https:\/\/hooks\.slack(?:-gov)?\.com)\/[^\s"']+/gi, "$1/…"],
  // The password of any URL, up to the last @ of the word.
  [/(\b[a-z][a-z\d+.-]*:\/\/[^\s/:@"']*):[^\s"']*@/gi, "$1:…@"],
];

/** The text with secrets replaced by "…": keys of the providers, Authorization headers, Slack webhooks, passwords in URLs. */
export function withoutSecrets(text: string): string {
  return SHAPES.reduce((rest, [shape, replacement]) => rest.replaceAll(shape, replacement), text);
}
