/**
 * Finds chunks that a blob holds already. The first one with a digest and size wins; later ones take no room.
 *
 * @module
 */
import { byteString } from "../base/byte-string.ts";
import type { ChunkRef } from "../tree/tree.ts";

export class ChunkDict {
  readonly #byDigest = new Map<string, ChunkRef>();

  find(digest: Uint8Array, size: number): ChunkRef | undefined {
    const known = this.#byDigest.get(byteString(digest));
    return known?.uncompressedSize === size ? known : undefined;
  }

  add(chunk: ChunkRef): void {
    const key = byteString(chunk.digest);
    if (!this.#byDigest.has(key)) this.#byDigest.set(key, chunk);
  }
}
