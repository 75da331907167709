/**
 * Digests of chunks are views of slabs, so that a tree moves between threads in a few large pieces.
 *
 * @module
 */
const DIGEST_SIZE = 32;
const SLAB_DIGESTS = 2048;

export class DigestSlabs {
  #slab = new Uint8Array(0);
  #used = 0;

  /** A copy of the digest. */
  keep(digest: Uint8Array): Uint8Array {
    if (this.#used === this.#slab.byteLength) {
      this.#slab = new Uint8Array(SLAB_DIGESTS * DIGEST_SIZE);
      this.#used = 0;
    }
    const kept = this.#slab.subarray(this.#used, this.#used + DIGEST_SIZE);
    kept.set(digest);
    this.#used += DIGEST_SIZE;
    return kept;
  }
}
