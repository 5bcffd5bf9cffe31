// Shutdown: requests in flight are answered, all other connections are closed.
import type { Socket } from "node:net";
import type { FastifyInstance } from "fastify";

const CLOSE_WITHIN_MS = 10_000;

/**
 * Returns the function that closes the app; further calls return the same promise. Fastify and Node
 * count a connection as idle only after its first request. A connection that a browser or load balancer opened in
 * advance would delay the close until the header timeout, so connections without a request are tracked here.
 */
export function createCloser(app: FastifyInstance): () => Promise<void> {
  const idle = new Set<Socket>();
  app.server.on("connection", (socket: Socket) => {
    idle.add(socket);
    socket.once("close", () => idle.delete(socket));
  });
  app.server.on("request", ({ socket }, response) => {
    idle.delete(socket);
    response.once("close", () => {
      if (!socket.destroyed) idle.add(socket);
    });
  });

  let closing: Promise<void> | null = null;
  // Without it, the connection of a request in flight would stay open for keepAliveTimeout.
  app.addHook("onSend", async (_request, reply) => {
    if (closing !== null) void reply.header("connection", "close");
  });
  return () => {
    if (closing === null) {
      const force = setTimeout(() => app.server.closeAllConnections(), CLOSE_WITHIN_MS);
      closing = app.close().finally(() => clearTimeout(force));
      for (const socket of idle) socket.destroy();
    }
    return closing;
  };
}
