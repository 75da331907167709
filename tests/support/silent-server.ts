/**
 * Accepts connections and never says anything.
 *
 * @module
 */
import { type AddressInfo, createServer, type Socket } from "node:net";

export interface SilentServer extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly host: string;
  /** Since the start. */
  readonly connections: number;
}

export async function startSilentServer(): Promise<SilentServer> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket.on("error", () => {})));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return sockets.length;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
