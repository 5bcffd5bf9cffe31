/**
 * Who a provider account belongs to: the platform (its credentials are environment variables) or a
 * tenant (its credentials are in provider_credentials).
 */
export type AccountOwner = "platform" | "tenant";
