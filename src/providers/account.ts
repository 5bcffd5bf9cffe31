/**
 * Who a provider account belongs to: the platform (its credentials are environment variables) or a
 * tenant (its credentials are in provider_credentials).
 */
export type AccountOwner = "platform" | "tenant";

// The connection was never made.
const UNREACHED = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);

/**
 * Whether Node's error code (null: none) shows that the provider was not reached, so that nothing was sent and a retry
 * is safe. It is a failure of the account for the circuit breaker: no other row would reach the provider either.
 */
export function isUnreached(code: string | null): boolean {
  return UNREACHED.has(code ?? "");
}
