/** One line of `brainops doctor`. off: not configured, not visible to this login, or idle; may be intended. */
export interface Finding {
  readonly name: string;
  readonly state: "ok" | "off" | "bad";
  /** Never contains a secret's value. */
  readonly detail: string;
}

export const ok = (name: string, detail: string): Finding => ({ name, state: "ok", detail });
export const off = (name: string, detail: string): Finding => ({ name, state: "off", detail });
export const bad = (name: string, detail: string): Finding => ({ name, state: "bad", detail });
