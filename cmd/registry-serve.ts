/** `registry serve`: the embedded registry over a directory. @module */

import { NydusError } from "../lib/base/error.ts";
import { serveRegistry } from "../lib/registry/server.ts";
import type { Command } from "./command.ts";

const DEFAULT_ADDRESS = "127.0.0.1:5000";

export const registryServe: Command = {
  name: "registry serve",
  summary: "Serve a directory as a container registry (no authentication: keep it on loopback)",
  operands: "DIR",
  arity: [1, 1],
  flags: {
    address: { type: "string", value: "HOST:PORT", help: `listen here (${DEFAULT_ADDRESS}; port 0 = any)` },
  },
  examples: [
    [
      "nydus-tool registry serve ./images",
      "then: skopeo copy --dest-tls-verify=false ... docker://127.0.0.1:5000/a:1",
    ],
    ["nydus-tool registry serve --address 127.0.0.1:0 ./images", "any free port; the address is printed"],
  ],
  async run(args, { print, signal, log }) {
    const { hostname, port } = parseAddress(args.string("address") ?? DEFAULT_ADDRESS);
    await using registry = await serveRegistry({ root: args.operand(0), hostname, port, log });
    print(registry.host);
    await ended(signal);
  },
};

/** "host:port", "[::1]:port". */
export function parseAddress(text: string): { hostname: string; port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/i.exec(text) ?? [];
  const hostname = bracketed ?? plain;
  const port = Number(digits);
  if (hostname !== undefined && port <= 65535) return { hostname, port };
  throw new NydusError("usage", `Cannot listen on "${text}": it is not host:port`);
}

/** Being told to stop is how this verb ends well. */
async function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}
