// The state that PGlite's one session must have before a connection's next batch runs in it.
import { identifier, literal } from "./sqltext.ts";
import { PreparedStatements } from "./statements.ts";

/** A role that logged in. */
export interface Login {
  readonly name: string;
  readonly oid: number;
  readonly superuser: boolean;
}

/** The session's state as one connection left it, or as the next one needs it. */
export interface SessionState {
  /** session_user; null if it is not set. Differs from the login only after a superuser's SET SESSION AUTHORIZATION. */
  readonly authorization: string | null;
  /** The role of SET ROLE, or "none". */
  readonly role: string;
  readonly settings: ReadonlyMap<string, string>;
}

/** Excluded: they are not settings of the session, or are restored separately. */
const NOT_KEPT = /^(?:session_authorization|role|is_superuser|seed|transaction_.*)$/;

export class Session {
  /** The client sees it as its backend's pid, SQL as brainops.connection_id. */
  readonly id: number;
  readonly login: Login;
  readonly statements: PreparedStatements;
  /** The values after RESET: the role's settings and those of the startup message. */
  base: ReadonlyMap<string, string> = new Map();
  state: SessionState & { readonly authorization: string };
  /** Channels that this connection listens on; only committed LISTENs count. */
  readonly channels = new Set<string>();
  /** The last ParameterStatus sent for each parameter. */
  readonly reported = new Map<string, string>();

  constructor(id: number, login: Login) {
    this.id = id;
    this.login = login;
    this.statements = new PreparedStatements(id);
    this.state = { authorization: login.name, role: "none", settings: new Map() };
  }

  /**
   * Saves the session's present settings. After RESET SESSION AUTHORIZATION they do not contain session_authorization.
   * That setting can differ from the login only for a superuser; for other roles its value is ignored.
   */
  save(settings: ReadonlyMap<string, string>): void {
    const state = stateOf(settings);
    const { name, superuser } = this.login;
    this.state = { ...state, authorization: superuser ? (state.authorization ?? name) : name };
  }

  /** The saved state on top of `base`: a setting that the client reset has its base value. */
  target(): Session["state"] {
    return { ...this.state, settings: new Map([...this.base, ...this.state.settings]) };
  }
}

export function stateOf(settings: ReadonlyMap<string, string>): SessionState {
  return {
    authorization: settings.get("session_authorization") ?? null,
    role: settings.get("role") ?? "none",
    settings: new Map([...settings].filter(([name]) => !NOT_KEPT.test(name))),
  };
}

/**
 * The query that changes the live state into the target. It starts as the superuser, because it must also change
 * settings that only a superuser may set. SET SESSION AUTHORIZATION also resets the role.
 */
export function switchQuery(live: SessionState, target: Session["state"]): string {
  const calls: string[] = [];
  const set = (name: string, value: string): void => {
    calls.push(`pg_catalog.set_config(${literal(name)}, ${value}, false)`);
  };
  for (const name of live.settings.keys()) if (!target.settings.has(name)) set(name, "null");
  for (const [name, value] of target.settings) if (live.settings.get(name) !== value) set(name, literal(value));

  const parts = ["set session authorization postgres"];
  if (calls.length > 0) parts.push(`select ${calls.join(", ")}`);
  if (target.authorization !== "postgres") parts.push(`set session authorization ${identifier(target.authorization)}`);
  if (target.role !== "none") parts.push(`set role ${identifier(target.role)}`);
  return parts.join("; ");
}
