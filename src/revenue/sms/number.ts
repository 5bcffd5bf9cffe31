// Phone numbers as people write them -> E.164. SQL reads the common ones itself (brainops_internal.sms_number);
// this is for all others, by libphonenumber's metadata.
import { parsePhoneNumberFromString, type CountryCode } from "libphonenumber-js";

/**
 * The number in E.164, or null where the text is none that can be texted: impossible by its length,
 * or with an extension. Whether somebody has it is Twilio's to say.
 * @param country ISO 3166, two letters: whose national numbers are meant; one nobody knows reads + alone
 */
export function e164(text: string, country: string): string | null {
  const number = parsePhoneNumberFromString(text, { defaultCountry: country as CountryCode, extract: false });
  if (number === undefined || number.ext !== undefined || !number.isPossible()) return null;
  return /^\+[1-9]\d{6,14}$/.test(number.number) ? number.number : null;
}
