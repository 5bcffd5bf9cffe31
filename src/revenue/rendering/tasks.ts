// What is rendered and the results, as plain data that can be posted to the rendering thread.
import type { ErrorCode } from "../../errors.ts";

export interface Variables {
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Null if the row is not about a lead. */
  readonly lead: Readonly<Record<string, unknown>> | null;
  readonly tenant: {
    readonly name: string;
    readonly slug: string;
    /** settings.postal_address; null if it is not set. */
    readonly postalAddress: string | null;
  };
}

export interface MailTask extends Variables {
  readonly kind: "mail";
  readonly subject: string;
  readonly body: string;
  /** Null unless the mail is marketing, which gets a footer. */
  readonly unsubscribeUrl: string | null;
}

export interface RenderedMail {
  readonly subject: string;
  readonly html: string;
  readonly text: string;
}

export interface TextTask extends Variables {
  readonly kind: "text";
  readonly body: string;
  /** Whether the text must say how to opt out. */
  readonly mustTell: boolean;
}

export interface RenderedText {
  readonly text: string;
  readonly segments: number;
}

/** What the recipients of a broadcast share. */
export interface BulkSource {
  /** Digits that are part of every substitution tag, and that no template or value can contain. */
  readonly nonce: string;
  /** Of the values of one recipient, as JSON. */
  readonly maxValueBytes: number;
  readonly subject: string;
  readonly body: string;
  readonly metadata: Variables["metadata"];
  readonly tenant: Variables["tenant"];
}

/** Gives the broadcast's mail with tags where recipients differ. */
export interface BulkTask {
  readonly kind: "bulk";
  readonly source: BulkSource;
}

/**
 * Gives the values of the tags for one recipient. Null if tags cannot express its mail, or if the values are too long
 * for a bulk call: the row needs a mail of its own.
 */
export interface RecipientTask {
  readonly kind: "recipient";
  readonly source: BulkSource;
  readonly metadata: Variables["metadata"];
  readonly lead: Variables["lead"];
  readonly unsubscribeUrl: string;
}

export type Task = MailTask | TextTask | BulkTask | RecipientTask;

export interface Results {
  readonly mail: RenderedMail;
  readonly text: RenderedText;
  readonly bulk: RenderedMail;
  readonly recipient: Readonly<Record<string, string>> | null;
}

/** The error of one row. `code` is null for an error without a code of ours. */
export interface Refusal {
  readonly code: ErrorCode | null;
  readonly message: string;
}

/** One task of a batch has ended. */
export interface Answer {
  readonly place: number;
  /** Processor time that it took. */
  readonly cpuMs: number;
  readonly result: Results[keyof Results] | { readonly refusal: Refusal };
}

/** From the thread: answers to the tasks of the current batch; `done` if the thread takes no more of them. */
export interface Report {
  readonly answers: readonly Answer[];
  readonly done: boolean;
}

/**
 * Shared with the thread, so that the process can read it while the thread is busy: the place of the task that is being
 * rendered plus one (0: none), and the thread's processor time in milliseconds when it began.
 */
export const PROGRESS = { bytes: 16, place: 0, cpuMs: 1 } as const;
