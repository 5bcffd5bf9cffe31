// The end of a server: requests in flight are answered, everything else is hung up on.
import type { Socket } from "node:net";
import type { FastifyInstance } from "fastify";

const CLOSE_WITHIN_MS = 10_000;

/**
 * Closes the app when called, once. Fastify and Node know a connection as idle only after its first
 * request: one that a browser or load balancer opened ahead would hold the close up until its
 * headers are overdue, so the connections without a request are kept track of here.
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
  // Else the connection of a request in flight would stay open for keepAliveTimeout.
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
