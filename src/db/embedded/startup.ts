// The frames before authentication: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage.
import {
  CANCEL_REQUEST,
  FatalError,
  encode,
  GSSENC_REQUEST,
  int32,
  MAX_STARTUP_BYTES,
  PROTOCOL_3_0,
  SSL_REQUEST,
} from "./messages.ts";
import type { MessageStream } from "./stream.ts";

export interface Startup {
  readonly user: string;
  readonly database: string;
  /** Settings for the session, in the client's order. */
  readonly settings: readonly (readonly [name: string, value: string])[];
}

export interface Cancel {
  readonly pid: number;
  readonly secret: number;
}

/** Reads up to the StartupMessage. Null if the client disconnects first, as port scans and health checks do. */
export async function readStartup(stream: MessageStream): Promise<Startup | Cancel | null> {
  for (;;) {
    const packet = await stream.next(MAX_STARTUP_BYTES, false);
    if (packet === null) return null;
    const code = packet.length >= 8 ? packet.readInt32BE(4) : 0;
    if (code === SSL_REQUEST || code === GSSENC_REQUEST) {
      stream.write(Buffer.from("N"));
    } else if (code === CANCEL_REQUEST && packet.length >= 16) {
      return { pid: packet.readInt32BE(8), secret: packet.readInt32BE(12) };
    } else if (code >> 16 === 3) {
      return parseStartup(packet, stream);
    } else {
      throw new FatalError("0A000", `unsupported frontend protocol ${code >> 16}.${code & 0xffff}: expected 3.0`);
    }
  }
}

function parseStartup(packet: Buffer, stream: MessageStream): Startup {
  const fields = packet.toString("utf8", 8).split("\0");
  const settings: [string, string][] = [];
  const unknown: string[] = [];
  let user = "";
  let database = "";
  for (let index = 0; index + 1 < fields.length && fields[index] !== ""; index += 2) {
    const [name = "", value = ""] = [fields[index], fields[index + 1]];
    if (name === "user") user = value;
    else if (name === "database") database = value;
    else if (name === "options") settings.push(...parseOptions(value));
    else if (name.startsWith("_pq_.")) unknown.push(name);
    else if (name === "replication") refuseReplication(value);
    else settings.push([name, value]);
  }
  if (user === "") throw new FatalError("28000", "no PostgreSQL user name specified in startup packet");
  if (packet.readInt32BE(4) > PROTOCOL_3_0 || unknown.length > 0) {
    stream.write(encode("v", int32(PROTOCOL_3_0, unknown.length), ...unknown.map((name) => `${name}\0`)));
  }
  return { user, database: database === "" ? user : database, settings };
}

function refuseReplication(value: string): void {
  if (!/^(?:f|false|off|no|0)?$/i.test(value)) {
    throw new FatalError("0A000", "the built-in Postgres does not support replication");
  }
}

/** The settings in `options`: -c name=value, -cname=value and --name=value; a backslash escapes the next character. */
function parseOptions(text: string): [string, string][] {
  const args = [...text.matchAll(/(?:\\[\s\S]|[^\s\\])+/g)].map(([arg]) => arg.replace(/\\([\s\S])/g, "$1"));
  const settings: [string, string][] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? "";
    const assignment = arg === "-c" ? args[++index] : /^(?:-c|--)(.+)$/s.exec(arg)?.[1];
    const match = /^([^=]+)=(.*)$/s.exec(assignment ?? "");
    if (match === null) throw new FatalError("42601", `invalid command-line argument for server process: ${arg}`);
    const [, name = "", value = ""] = match;
    settings.push([arg.startsWith("--") ? name.replaceAll("-", "_") : name, value]);
  }
  return settings;
}
