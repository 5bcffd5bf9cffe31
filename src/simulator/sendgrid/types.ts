// Terms of this folder:
// - request: one POST /v3/mail/send
// - message: one personalization of an accepted request
// - recipient: one address in a message's to, cc or bcc
// - event: one object of the event webhook, about one recipient
// - batch: the events in one POST to the webhook
// - fault: an error response, or a missing response, that was requested in advance

interface Address {
  email: string;
  name?: string;
}

/** Values are strings; validation rejects anything else. */
export type StringMap = Record<string, string>;

export interface Personalization {
  to: Address[];
  cc?: Address[];
  bcc?: Address[];
  from?: Address;
  subject?: string;
  headers?: StringMap;
  substitutions?: StringMap;
  dynamic_template_data?: Record<string, unknown>;
  custom_args?: StringMap;
  send_at?: number;
}

/** The parts of a validated request body that the simulator reads; the schema lists all. */
export interface MailSend {
  personalizations: Personalization[];
  from: Address;
  reply_to?: Address;
  reply_to_list?: Address[];
  subject?: string;
  content?: { type: string; value: string }[];
  attachments?: { content: string; filename: string; type?: string }[];
  template_id?: string;
  headers?: StringMap;
  categories?: string[];
  custom_args?: StringMap;
  send_at?: number;
  asm?: { group_id: number };
  mail_settings?: { sandbox_mode?: { enable?: boolean } };
}

/** One element of `errors` in an error response. */
export interface SendgridError {
  message: string;
  field: string | null;
  help: string | null;
}

/** One accepted personalization, merged with the values of its request. */
export interface AcceptedMessage {
  /** The X-Message-Id of the request, shared by all its personalizations. */
  messageId: string;
  /** Unix milliseconds. */
  at: number;
  to: Address[];
  cc: Address[];
  bcc: Address[];
  from: Address;
  replyTo: Address | null;
  /** Null if a template provides it. */
  subject: string | null;
  content: { type: string; value: string }[];
  headers: StringMap;
  customArgs: StringMap;
  categories: string[];
  sendAt: number | null;
  asmGroupId: number | null;
}

/** An event of the webhook; custom arguments are on the same level as SendGrid's fields. */
export type SendgridEvent = Record<string, unknown> & { email: string; timestamp: number; event: string };
