/**
 * A directory that holds a bootstrap that was made on this machine, with what says how its blobs are read. It gets its
 * name when all of it is on disk.
 *
 * @module
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { digestHex } from "../base/digest.ts";
import { NydusError, toNydusError } from "../base/error.ts";
import { syncDirectory, writeFileAtomically } from "../content/files.ts";
import type { AdoptedImage } from "../image/adopted.ts";
import type { Image } from "../image/load.ts";

/** What is made otherwise is made anew. */
const VERSION = 1;

const BOOTSTRAP = "image.boot";
const DESCRIPTION = "adopted.json";

/** Where a cache directory keeps an image. */
export function adoptedPlace(cacheDirectory: string, { descriptor }: Image): string {
  return join(cacheDirectory, "adopted", digestHex(descriptor.digest));
}

/** What an earlier call made in a directory. */
export function adoptedIn(place: string): AdoptedImage | undefined {
  const format = described(place);
  return format === undefined ? undefined : { bootstrap: join(place, BOOTSTRAP), format };
}

/** What the image in a directory is; undefined when there is none that we can use. */
function described(place: string): string | undefined {
  try {
    const text = readFileSync(join(place, DESCRIPTION), "utf8");
    const { version, format } = JSON.parse(text) as Partial<Record<string, unknown>>;
    return version === VERSION && typeof format === "string" ? format : undefined;
  } catch {
    return undefined; // not there, or damaged: it is made anew
  }
}

/**
 * Whoever is first wins.
 *
 * @param what for messages: `use image "..."`
 * @param fill writes into an empty directory, which goes away when that fails; see `writeAdopted`
 */
export async function makeAdopted(
  place: string,
  what: string,
  fill: (work: string) => Promise<void>,
): Promise<AdoptedImage> {
  const there = adoptedIn(place);
  if (there !== undefined) return there;
  const parent = dirname(place);
  await mkdir(parent, { recursive: true, mode: 0o700 });
  await removeLeftOvers(parent);
  const work = await mkdtemp(join(parent, `${PARTIAL}${process.pid}-`));
  try {
    await fill(work);
    await moveAdopted(work, place);
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    if (described(place) === undefined) throw toNydusError(error, what);
  }
  const made = adoptedIn(place);
  if (made !== undefined) return made;
  throw new NydusError("internal", `Cannot use "${place}": what was just made there is gone`);
}

/** To another place of the same file system. What is well there stays; then it is an error. */
export async function moveAdopted(from: string, place: string): Promise<void> {
  try {
    await rename(from, place);
  } catch (error) {
    if (!existsSync(place) || described(place) !== undefined) throw error;
    await removeDamaged(place);
    await rename(from, place);
  }
  await syncDirectory(dirname(place));
}

/** Moved away first: deleting takes time, in which another one may come to its place. */
async function removeDamaged(place: string): Promise<void> {
  const aside = await mkdtemp(join(dirname(place), `${PARTIAL}${process.pid}-`));
  await rename(place, aside);
  await rm(aside, { recursive: true, force: true });
}

const PARTIAL = ".adopting-";

/** Milliseconds. In another PID namespace, a process that works here may not be seen. */
const LEFT_BEHIND = 3_600_000;

/** Of processes that were killed. */
async function removeLeftOvers(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = name.startsWith(PARTIAL) ? Number.parseInt(name.slice(PARTIAL.length), 10) : Number.NaN;
    if (Number.isNaN(pid) || existsSync(`/proc/${pid}`)) continue;
    const path = join(parent, name);
    const since = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (Date.now() - since > LEFT_BEHIND) await rm(path, { recursive: true, force: true });
  }
}

interface Adopted {
  readonly bootstrap: Uint8Array;
  /** What the layers are, for people. */
  readonly format: string;
  /** Compression information that no blob has, by the blob's hex digest. */
  readonly chunkInfos: ReadonlyMap<string, Uint8Array>;
}

export async function writeAdopted(work: string, { bootstrap, format, chunkInfos }: Adopted): Promise<void> {
  const mode = { mode: 0o600 };
  for (const [blob, bytes] of chunkInfos)
    await writeFileAtomically(join(work, `${blob}.blob.meta`), bytes, mode);
  await writeFileAtomically(join(work, BOOTSTRAP), bootstrap, mode);
  const description = JSON.stringify({ version: VERSION, format });
  await writeFileAtomically(join(work, DESCRIPTION), Buffer.from(description), mode);
}
