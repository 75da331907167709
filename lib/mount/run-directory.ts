/**
 * Where processes that serve mounts can be found: one directory each below /run, with a control socket in it.
 *
 * @module
 */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isCode } from "../base/error.ts";
import type { CacheStatus } from "../blob/cache-status.ts";
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
  return await askAll(runRoot, async (client) => (await client.list()).map((status) => ({ client, status })));
}

/** The cache of every living process; processes may share one. */
export async function findCaches(runRoot: string): Promise<readonly CacheStatus[]> {
  return await askAll(runRoot, async (client) => [await client.cache()]);
}

async function askAll<T>(
  runRoot: string,
  ask: (client: ControlClient) => Promise<readonly T[]>,
): Promise<readonly T[]> {
  const found: T[] = [];
  for (const client of clients(runRoot)) {
    try {
      found.push(...(await ask(client)));
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
