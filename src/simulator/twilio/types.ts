// The words of this folder:
// - account: whose SID and token a request has; the first is the installation's, others are tenants' own
// - message: one resource of the Messages API: a text that was sent, or one that somebody wrote to us
// - person: a number that is not ours
// - fate: what becomes of a text once it was accepted
// - post: one request to a webhook: a status callback, or an inbound text
// - fault: an answer, or the lack of one, that is asked for in advance

export interface Account {
  readonly accountSid: string;
  readonly authToken: string;
  /** A number of the account: what a messaging service sends from, and where people write to by default. */
  readonly from: string;
  /** Where what people write to the account goes; while it is null it waits. */
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
  /** The parameter `row` of the status callback: the id of the client's row; null where there is none. */
  readonly row: string | null;
  status: Status;
  errorCode: number | null;
}

/** silent: it is on its way for ever, and no callback comes. */
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

/** Twilio's answer to what it does not take. */
export interface Refusal {
  readonly status: number;
  readonly code: number;
  readonly message: string;
}
