/**
 * An archive for reading: files inside it by name, whole or by range. Its index is read once; the file is opened again
 * for each body, so nothing needs closing.
 *
 * @module
 */

import { open } from "node:fs/promises";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import type { ByteRange } from "./content.ts";
import { streamFile } from "./files.ts";
import { type TarFile, TarIndex } from "./tar-index.ts";
import { readAll } from "./verified.ts";

export class ArchiveFile {
  readonly path: string;
  readonly #index: TarIndex;

  private constructor(path: string, index: TarIndex) {
    this.path = path;
    this.#index = index;
  }

  /** @throws not_found, corrupt */
  static async open(path: string): Promise<ArchiveFile> {
    const file = await open(path, "r").catch((error: unknown) => {
      const known = toNydusError(error, `open "${path}"`);
      throw known.code === "not_found"
        ? new NydusError("not_found", `Cannot open "${path}": there is no such file`)
        : known;
    });
    try {
      return new ArchiveFile(path, await TarIndex.read(file, path));
    } catch (error) {
      throw toNydusError(error, `open "${path}"`);
    } finally {
      await file.close();
    }
  }

  find(name: string): TarFile | undefined {
    return this.#index.get(name);
  }

  stream(place: TarFile, range: ByteRange, signal?: AbortSignal): ReadableStream<Uint8Array> {
    const { offset } = place;
    return streamFile(this.path, { start: offset + range.start, end: offset + range.end }, signal);
  }

  /** A small file in memory. */
  async read(name: string, limit: number): Promise<Uint8Array> {
    const place = this.find(name);
    if (place === undefined)
      throw corrupt(`Cannot read "${name}" in "${this.path}": the archive has no such file`);
    return readAll(this.stream(place, { start: 0, end: place.size }), limit, `"${name}" in "${this.path}"`);
  }
}
