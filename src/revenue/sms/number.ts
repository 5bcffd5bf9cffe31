// Phone numbers as people write them -> E.164, by libphonenumber's metadata. SQL reads the common
// formats itself (brainops_internal.sms_number).
import { parsePhoneNumberFromString, type CountryCode } from "libphonenumber-js";

/**
 * The number in E.164. Null if it cannot receive texts: not a phone number, an impossible length, or an
 * extension. Does not check whether the number is assigned.
 * @param country ISO 3166, two letters: the country of numbers without a country code; with an unknown
 *   country only numbers with + are read
 */
export function e164(text: string, country: string): string | null {
  const number = parsePhoneNumberFromString(text, { defaultCountry: country as CountryCode, extract: false });
  if (number === undefined || number.ext !== undefined || !number.isPossible()) return null;
  return /^\+[1-9]\d{6,14}$/.test(number.number) ? number.number : null;
}
