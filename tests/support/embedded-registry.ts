/** Our own registry (`registry serve`) as a process of its own, over a fresh directory. @module */
import { mkdtemp } from "node:fs/promises";
import { waitFor } from "./process.ts";
import type { Workspace } from "./workspace.ts";

export interface EmbeddedRegistry {
  /** "127.0.0.1:PORT". */
  readonly host: string;
  readonly directory: string;
  stop(): Promise<void>;
}

export async function startEmbeddedRegistry(place: Workspace): Promise<EmbeddedRegistry> {
  const directory = await mkdtemp(place.path("registry-"));
  const name = directory.slice(place.directory.length + 1);
  const service = place.start(name, ["registry", "serve", "--address", "127.0.0.1:0", directory]);
  let host: string | undefined;
  const announced = async (): Promise<boolean> => {
    host = /^127\.0\.0\.1:\d+$/m.exec(await place.log(name))?.[0];
    return host !== undefined;
  };
  await waitFor("the embedded registry", announced, { service });
  return { host: host ?? "", directory, stop: () => service.stop() };
}
