// The words of this folder:
// - request: one POST /v3/mail/send
// - message: one personalization of an accepted request, what the record holds
// - recipient: one address of a message's to, cc or bcc, what events are about
// - event: one object of the event webhook
// - batch: the events that travel in one POST to the webhook
// - fault: an answer, or the lack of one, that is asked for in advance

interface Address {
  email: string;
  name?: string;
}

/** Strings by contract; validation refuses anything else. */
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

/** The parts of a validated request body that the simulator reads; the schema knows them all. */
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

/** An entry of `errors` in every refusal. */
export interface SendgridError {
  message: string;
  field: string | null;
  help: string | null;
}

/** One accepted personalization, its own values already laid over those of the request. */
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
  /** null where a template brings it. */
  subject: string | null;
  content: { type: string; value: string }[];
  headers: StringMap;
  customArgs: StringMap;
  categories: string[];
  sendAt: number | null;
  asmGroupId: number | null;
}

/** An object of the event webhook; custom arguments lie beside SendGrid's own fields. */
export type SendgridEvent = Record<string, unknown> & { email: string; timestamp: number; event: string };
