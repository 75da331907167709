/** Debian's docker-registry on a free loopback port; its directory is removed at the end. @module */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { type Service, startService, waitFor } from "./process.ts";

export interface Registry extends AsyncDisposable {
  /** "127.0.0.1:PORT". */
  readonly host: string;
  /** Every request is a line in it. */
  readonly log: string;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("Cannot find a free port");
  return address.port;
}

export interface RegistryConfiguration {
  /** Paths of its certificate and key. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  /** A section as it stands. */
  readonly auth?: object;
}

export async function startDockerRegistry(
  directory: string,
  { tls, ...more }: RegistryConfiguration = {},
): Promise<Registry> {
  await mkdir(directory, { recursive: true });
  const host = `127.0.0.1:${await freePort()}`;
  const log = `${directory}/registry.log`;
  const config = {
    version: "0.1",
    log: { accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: `${directory}/data` }, delete: { enabled: true } },
    http: { addr: host, ...(tls === undefined ? {} : { tls }) },
    ...more,
  };
  // JSON is YAML.
  await writeFile(`${directory}/config.yml`, JSON.stringify(config));
  const service: Service = startService("docker-registry", ["serve", `${directory}/config.yml`], { log });
  const serving = (): Promise<boolean> =>
    fetch(`http${tls === undefined ? "" : "s"}://${host}/v2/`, { tls: { rejectUnauthorized: false } }).then(
      (response) => response.ok || response.status === 401,
      () => false,
    );
  await waitFor(`docker-registry (see ${log})`, serving, { service });
  return {
    host,
    log,
    async [Symbol.asyncDispose]() {
      await service.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
