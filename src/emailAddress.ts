// What an e-mail address is. The same rule as the trigger function check_email_row applies to
// ai_email_queue.recipient; test/email/address.test.ts compares the two.

const MAX_CHARACTERS = 254;

// Local part of 1-64 characters, labels of 1-63, at least two labels. ASCII only: a domain with other
// letters is written in punycode.
const ADDRESS = /^[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$/i;

/** Whether the text is one bare address such as ann@example.com, without surrounding white space. */
export function isEmailAddress(text: string): boolean {
  return text.length <= MAX_CHARACTERS && ADDRESS.test(text);
}

/**
 * Splits "name <address>" into its parts, without quotes and surrounding white space. The name is ""
 * for a bare address. Does not check the address.
 */
export function splitMailbox(mailbox: string): { readonly name: string; readonly address: string } {
  const [, name = "", address = ""] = /^\s*"?([^"<]*)"?\s*<([^<>]+)>\s*$/.exec(mailbox) ?? [];
  return address === "" ? { name: "", address: mailbox.trim() } : { name: name.trim(), address: address.trim() };
}
