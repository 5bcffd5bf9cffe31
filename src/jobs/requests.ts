// Whether a request has left this process: what decides if an outcome says anything about a provider.
//
// Node publishes each request and each connection of a client on diagnostics channels, in the async context of the code
// that makes it. So this needs no help from handlers or SDKs: an error before the request (a body that cannot be
// serialized, an invalid header or URL, a bug) leaves `begun` false, and everything from then on (a refused
// connection, an unknown host, a timeout, any answer) finds it true.
import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe } from "node:diagnostics_channel";

export interface RequestWatch {
  /** Whether code inside `run` has begun a request or a connection; from then on it may have left. */
  readonly begun: boolean;
  /** Runs the function and watches it, also after it has returned. */
  run<T>(watched: () => T): T;
  /** For requests that Node does not publish: over a pooled connection of another protocol, or from a thread. */
  markBegun(): void;
}

const watches = new AsyncLocalStorage<RequestWatch | undefined>();

// Published before the first byte is written. A client of HTTP/2 or of another protocol shows with its connection.
for (const channel of [
  "http.client.request.created",
  "http2.client.stream.created",
  "undici:request:create",
  "net.client.socket",
]) {
  subscribe(channel, () => watches.getStore()?.markBegun());
}

/** A class, because one is made for every row. */
class Watch implements RequestWatch {
  begun = false;
  readonly #outer = watches.getStore();

  run<T>(watched: () => T): T {
    return watches.run(this, watched);
  }

  markBegun(): void {
    this.begun = true;
    this.#outer?.markBegun();
  }
}

/** A watch of its own. Inside another watch it marks that one, too. */
export function watchRequests(): RequestWatch {
  return new Watch();
}

/** Runs the function unwatched: our own queries, because a connection to Postgres is not a request to a provider. */
export function unwatched<T>(run: () => T): T {
  return watches.run(undefined, run);
}
