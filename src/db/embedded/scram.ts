// The server side of SCRAM-SHA-256 (RFC 5802, RFC 7677), with the verifiers that Postgres stores in
// pg_authid.rolpassword: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from "node:crypto";

export interface Verifier {
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

const hmac = (key: Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();
const sha256 = (bytes: Buffer): Buffer => createHash("sha256").update(bytes).digest();

/** The parsed verifier; null for a missing password, an MD5 password, or any other format. */
export function parseVerifier(text: string | null): Verifier | null {
  const match = /^SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)$/.exec(text ?? "");
  if (match === null) return null;
  const [, iterations = "", salt = "", stored = "", server = ""] = match;
  const decode = (part: string): Buffer => Buffer.from(part, "base64");
  return { iterations: Number(iterations), salt: decode(salt), storedKey: decode(stored), serverKey: decode(server) };
}

/** The verifier of an ASCII password, which `alter role … password` accepts instead of the password. */
export function makeVerifier(password: string, salt: Buffer = randomBytes(16), iterations = 4096): string {
  const salted = pbkdf2Sync(password, salt, iterations, 32, "sha256");
  const stored = sha256(hmac(salted, "Client Key")).toString("base64");
  const server = hmac(salted, "Server Key").toString("base64");
  return `SCRAM-SHA-256$${iterations}:${salt.toString("base64")}$${stored}:${server}`;
}

/** Whether a rolpassword is a verifier of `password`. */
export function matches(text: string | null, password: string): boolean {
  const verifier = parseVerifier(text);
  return verifier !== null && makeVerifier(password, verifier.salt, verifier.iterations) === text;
}

/**
 * One exchange. With a null verifier (unknown role, no password) it runs the same steps with a mock salt and then
 * fails, so that a client can't find out which roles exist. The mock salt is derived from the name and `mockKey`, so
 * it is the same at every attempt.
 */
export class ScramExchange {
  readonly #verifier: Verifier;
  readonly #real: boolean;
  #clientFirstBare = "";
  #serverFirst = "";
  #header = "";
  #nonce = "";

  constructor(verifier: Verifier | null, mockKey: Buffer, user: string) {
    this.#real = verifier !== null;
    const salt = hmac(mockKey, user).subarray(0, 16);
    this.#verifier = verifier ?? { iterations: 4096, salt, storedKey: Buffer.alloc(32), serverKey: Buffer.alloc(32) };
  }

  /** client-first-message -> server-first-message; null if it is malformed. */
  first(clientFirst: string): string | null {
    // gs2-header: no channel binding (n), or supported by the client but not offered without TLS (y); no authzid.
    const match = /^([ny],,)(n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/.exec(clientFirst);
    if (match === null) return null;
    const [, header = "", bare = "", clientNonce = ""] = match;
    this.#header = header;
    this.#clientFirstBare = bare;
    this.#nonce = clientNonce + randomBytes(18).toString("base64");
    this.#serverFirst = `r=${this.#nonce},s=${this.#verifier.salt.toString("base64")},i=${this.#verifier.iterations}`;
    return this.#serverFirst;
  }

  /** client-final-message -> server-final-message; null if it is malformed or the password is wrong. */
  final(clientFinal: string): string | null {
    const match = /^(c=([^,]+),r=([^,]+)),p=([^,]+)$/.exec(clientFinal);
    if (match === null) return null;
    const [, withoutProof = "", binding = "", nonce = "", proofText = ""] = match;
    if (nonce !== this.#nonce || Buffer.from(binding, "base64").toString() !== this.#header) return null;
    const message = `${this.#clientFirstBare},${this.#serverFirst},${withoutProof}`;
    const signature = hmac(this.#verifier.storedKey, message);
    const proof = Buffer.from(proofText, "base64");
    if (proof.length !== signature.length) return null;
    const clientKey = Buffer.from(proof.map((byte, index) => byte ^ (signature[index] ?? 0)));
    if (!timingSafeEqual(sha256(clientKey), this.#verifier.storedKey) || !this.#real) return null;
    return `v=${hmac(this.#verifier.serverKey, message).toString("base64")}`;
  }
}
