/**
 * What leaves a node's cache when images go: chunks of their blobs, and what was noted about their bootstraps, once
 * nobody has needed it for a while. What a process or a mount has open stays, whoever needs it.
 *
 * Since when something is not needed is remembered in one file. Lost, it only means that the wait begins again.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { toNydusError } from "../base/error.ts";
import { CacheDirectory } from "../blob/cache-directory.ts";
import { writeFileAtomically } from "../content/files.ts";

/** Hex digests of everything that a snapshot may need. */
export interface NeededCache {
  readonly blobs: ReadonlySet<string>;
  readonly bootstraps: ReadonlySet<string>;
}

/** Directories of a cache whose files are named by a bootstrap's digest; each can be made again from the image. */
const NOTES = ["checked", "chunk-info", "erofs", "traces"];
/** A file that is just being written must be older than this. Milliseconds. */
const PARTIAL = 600_000;

interface Item {
  /** Path below the cache directory. */
  readonly path: string;
  readonly needed: boolean;
  remove(): boolean;
}

/**
 * Removes what was not needed for `grace` milliseconds; what is not needed for the first time is noted.
 *
 * @returns paths below the cache directory that went
 */
export async function collectCache(
  cache: string,
  needed: NeededCache,
  options: { readonly grace: number; readonly now?: number },
): Promise<readonly string[]> {
  const { grace, now = Date.now() } = options;
  const since = readSince(cache);
  const waiting: Record<string, number> = {};
  const removed: string[] = [];
  for (const { path, needed: stays, remove } of [...blobs(cache, needed), ...notes(cache, needed)]) {
    if (stays) continue;
    // A clock that was set back must not make anything wait for years.
    const first = Math.min(since[path] ?? now, now);
    const wait = path.includes("/.") ? Math.max(grace, PARTIAL) : grace;
    if (now - first >= wait && remove()) removed.push(path);
    else waiting[path] = first;
  }
  await writeSince(cache, since, waiting);
  return removed;
}

function* blobs(cache: string, needed: NeededCache): Generator<Item> {
  const directory = new CacheDirectory(cache);
  for (const name of directory.names()) {
    yield {
      path: `blobs/${name}`,
      needed: needed.blobs.has(hexOf(name)),
      remove: () => directory.remove(name),
    };
  }
}

function* notes(cache: string, needed: NeededCache): Generator<Item> {
  for (const kind of NOTES) {
    if (!existsSync(join(cache, kind))) continue;
    for (const name of readdirSync(join(cache, kind))) {
      const path = `${kind}/${name}`;
      yield { path, needed: needed.bootstraps.has(hexOf(name)), remove: () => removeTree(join(cache, path)) };
    }
  }
}

/** Names are a digest, then perhaps "-" or "." and more. */
function hexOf(name: string): string {
  return name.split(/[-.]/, 1)[0] ?? "";
}

function removeTree(path: string): boolean {
  rmSync(path, { recursive: true, force: true });
  return true;
}

const FILE = "unneeded.json";

function readSince(cache: string): Readonly<Record<string, number>> {
  try {
    const parsed: unknown = JSON.parse(readFileSync(join(cache, FILE), "utf8"));
    const entries = Object.entries(typeof parsed === "object" && parsed !== null ? parsed : {});
    return Object.fromEntries(
      entries.filter((entry): entry is [string, number] => Number.isFinite(entry[1])),
    );
  } catch {
    return {}; // the first time, or damaged
  }
}

async function writeSince(
  cache: string,
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): Promise<void> {
  const text = JSON.stringify(after);
  if (text === JSON.stringify(before)) return;
  try {
    await writeFileAtomically(join(cache, FILE), Buffer.from(text), { mode: 0o600 });
  } catch (error) {
    throw toNydusError(error, `note what the cache "${cache}" may lose`);
  }
}
