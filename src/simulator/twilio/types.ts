// Terms of this folder:
// - account: SID and token of requests; the first account is the platform's, the others are tenants'
// - message: one resource of the Messages API: a text that we sent, or one that a person sent to us
// - person: a number that is not ours
// - fate: what happens to a text after it was accepted
// - post: one request to a webhook: a status callback or an inbound text
// - fault: an error response, or a missing response, that was requested in advance

export interface Account {
  readonly accountSid: string;
  readonly authToken: string;
  /** A number of the account: a messaging service sends from it, and people write to it by default. */
  readonly from: string;
  /** URL for inbound texts; while it is null, they wait. */
  inboundUrl: string | null;
}

export type Status = "accepted" | "queued" | "sending" | "sent" | "delivered" | "undelivered" | "failed" | "received";

export interface Message {
  readonly sid: string;
  readonly accountSid: string;
  /** Unix milliseconds. */
  readonly at: number;
  readonly direction: "outbound-api" | "outbound-reply" | "inbound";
  readonly from: string;
  readonly to: string;
  readonly body: string;
  readonly segments: number;
  readonly messagingServiceSid: string | null;
  readonly statusCallback: string | null;
  /** The parameter `row` of the status callback, i.e. the id of the client's row; null without it. */
  readonly row: string | null;
  status: Status;
  errorCode: number | null;
}

/** silent: the text stays queued for ever, without callbacks. */
export type Fate =
  | { readonly status: "delivered" | "sent" | "silent" }
  | { readonly status: "undelivered" | "failed"; readonly errorCode: number };

/** The parameters of POST Messages.json that the simulator reads. */
export interface CreateRequest {
  readonly to: string;
  readonly from: string | null;
  readonly messagingServiceSid: string | null;
  readonly body: string;
  readonly statusCallback: string | null;
}

/** Twilio's error response. */
export interface Refusal {
  readonly status: number;
  readonly code: number;
  readonly message: string;
}
