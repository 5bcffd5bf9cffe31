// Cleans text from outside (providers, webhooks, forms, templates) for Postgres.

/**
 * The text as Postgres accepts it in text and jsonb: U+0000 and lone surrogates become U+FFFD, which keeps the length
 * and shows the reader that something was there. Any other text is returned unchanged.
 */
export function cleanText(text: string): string {
  return text.includes("\0") || !text.isWellFormed() ? text.toWellFormed().replaceAll("\0", "\uFFFD") : text;
}
