/**
 * The kernel parses a bootstrap only after our own reader has checked it completely: once a digest. The note that a
 * digest passed lies in the cache directory, which is root's alone.
 *
 * @module
 */
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestHex, digestOf } from "../base/digest.ts";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import { readBootstrapFile } from "../image/bootstrap-file.ts";
import { examineImage, openImage, type RafsImage } from "../rafs/image.ts";

/** Part of the note's name: a better checker must look at everything again. */
const CHECKER_VERSION = 2;
/** What the note says of a bootstrap whose chunk table lacks chunks; of others it says nothing. */
const INCOMPLETE = "the chunk table is not complete\n";

export interface CheckedBootstrap {
  readonly image: RafsImage;
  /** Hex SHA-256 of the bootstrap. */
  readonly digest: string;
  /** Whether every chunk of a file is in the chunk table. */
  readonly chunkTableComplete: boolean;
}

export async function openChecked(path: string, cacheDirectory: string): Promise<CheckedBootstrap> {
  const bytes = readBootstrapFile(path);
  const digest = digestHex(digestOf(bytes));
  const notes = join(cacheDirectory, "checked");
  const note = join(notes, `${digest}.${CHECKER_VERSION}`);
  const image = opened(bytes, path);
  if (!existsSync(note)) {
    const { violations, chunkTableComplete } = await examineImage(bytes);
    const [first] = violations;
    if (first !== undefined) {
      const more = violations.length > 1 ? ` (and ${violations.length - 1} more problems)` : "";
      throw corrupt(`Cannot trust bootstrap "${path}": ${first.path}: ${first.message}${more}`);
    }
    mkdirSync(notes, { recursive: true, mode: 0o700 });
    writeFileSync(note, chunkTableComplete ? "" : INCOMPLETE, { mode: 0o600 });
  }
  return { image, digest, chunkTableComplete: statSync(note).size === 0 };
}

/** The reader knows bytes only; people want to know whose. */
function opened(bytes: Uint8Array, path: string): RafsImage {
  try {
    return openImage(bytes);
  } catch (error) {
    const { code, message } = toNydusError(error, "read the bootstrap");
    throw new NydusError(code, message.replace("the bootstrap", `bootstrap "${path}"`), { cause: error });
  }
}
