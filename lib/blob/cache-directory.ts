/**
 * The directories of a cache as a whole, one for each data file: what they take on disk, and how unused ones go. Any
 * process may do this; locks keep it from what others use.
 *
 * @module
 */
import { closeSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { isOpenElsewhere } from "../../ffi/libc.ts";
import { dataPath, lockedFile } from "./locked-file.ts";

export class CacheDirectory {
  readonly path: string;

  /** @param cache the cache's own directory; made, and root's alone */
  constructor(cache: string) {
    this.path = join(cache, "blobs");
    mkdirSync(this.path, { recursive: true, mode: 0o700 });
  }

  names(): string[] {
    return readdirSync(this.path);
  }

  of(name: string): string {
    return join(this.path, name);
  }

  /** Bytes of data on disk. */
  bytes(name: string): number {
    return (statSync(dataPath(this.of(name)), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
  }

  /** Bytes on disk of everything cached of a blob (hex id). */
  usage(blobId: string): number {
    const own = this.names().filter((name) => name === blobId || name.startsWith(`${blobId}-`));
    return own.reduce((sum, name) => sum + this.bytes(name), 0);
  }

  totalBytes(): number {
    return this.names().reduce((sum, name) => sum + this.bytes(name), 0);
  }

  /** When the file was last opened or closed. Milliseconds since 1970, 0 when unknown. */
  lastUse(name: string): number {
    return statSync(join(this.of(name), "claims"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  }

  /** Deletes the file, unless a process has it open or a mount stands on it. @returns whether it is gone */
  remove(name: string): boolean {
    const directory = this.of(name);
    const fd = lockedFile(directory);
    if (fd === undefined) return false;
    try {
      if (isOpenElsewhere(fd) === true) return false;
      // The claims go first: data without claims is nothing, claims without data would be lies.
      rmSync(join(directory, "claims"), { force: true });
      rmSync(directory, { recursive: true, force: true });
      return true;
    } finally {
      closeSync(fd);
    }
  }
}
