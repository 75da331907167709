/**
 * Where processes that serve mounts can be found: one directory each below /run, with a control socket in it.
 *
 * @module
 */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isCode } from "../base/error.ts";
import { controlSocket } from "./client.ts";
import { ControlClient } from "./control-client.ts";
import type { MountStatus } from "./mount-request.ts";

export const DEFAULT_RUN_ROOT = "/run/nydus-tool";
export const DEFAULT_CACHE_DIRECTORY = "/var/cache/nydus-tool";

export interface FoundMount {
  readonly client: ControlClient;
  readonly status: MountStatus;
}

/** Every mount of every living process. What dead processes left is skipped. */
export async function findMounts(runRoot: string): Promise<readonly FoundMount[]> {
  const found: FoundMount[] = [];
  for (const client of clients(runRoot)) {
    try {
      for (const status of await client.list()) found.push({ client, status });
    } catch (error) {
      if (!isCode(error, "unavailable")) throw error;
    }
  }
  return found;
}

function clients(runRoot: string): ControlClient[] {
  if (!existsSync(runRoot)) return [];
  return readdirSync(runRoot)
    .map((name) => controlSocket(join(runRoot, name)))
    .filter((socket) => existsSync(socket))
    .map((socket) => new ControlClient(socket));
}

/** Removes an empty-handed process's directory, best effort: it holds nothing that matters. */
export function removeRunDirectory(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
