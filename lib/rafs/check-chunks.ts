/**
 * Checks the chunk table, and the chunk indexes of files against it: the kernel follows the indexes, our fetching the
 * table, and both must mean the same bytes.
 *
 * @module
 */
import type { Bootstrap } from "./bootstrap.ts";
import { BrokenRule, type Complain } from "./broken-rule.ts";
import { type BlobChunks, readChunks } from "./chunk-maps.ts";
import { IndexedChunks } from "./indexed-chunks.ts";
import { CHUNK_BITS, CHUNK_INDEXES, chunkIndex } from "./inode.ts";
import { chunkIndexes, type RawInode } from "./inode-reader.ts";

const X = chunkIndex.fields;

export class ChunkChecker {
  readonly #image: Bootstrap;
  readonly #chunks: readonly BlobChunks[];
  /** What the table lacks. */
  readonly #indexed: IndexedChunks;

  /** Whether each record says something that can be. */
  #sound = true;

  /** @param complain is told what is wrong with the chunk table */
  constructor(image: Bootstrap, complain: Complain) {
    this.#image = image;
    this.#indexed = new IndexedChunks(image);
    const note: Complain = (broken) => {
      this.#sound = false;
      complain(broken);
    };
    // In tarfs it has a record a blob, which says nothing.
    this.#chunks = image.superblock.tarfs ? [] : readChunks(image, note);
    if (!this.#sound) return;
    const table = image.superblock.chunkTable.offset;
    for (const [i, chunks] of this.#chunks.entries())
      checkOrdinals(chunks, image.blobs[i]?.chunkCount ?? 0, (state) =>
        complain(new BrokenRule(table, state)),
      );
  }

  /** @throws corrupt when the indexes are not in the bootstrap */
  check(inode: RawInode, complain: Complain): void {
    const { view, superblock } = this.#image;
    const { chunkSize, blockSize } = superblock;
    const { offset, size } = chunkIndexes(view, inode, chunkSize);
    let contiguous = true;
    let expectedDevice = -1;
    let expectedBlock = -1;
    for (let at = offset, left = inode.size; at < offset + size; at += chunkIndex.size, left -= chunkSize) {
      const device = X.device.read(view, at) & 0xff;
      const block = X.block.read(view, at);
      const state = this.#wrongIndex(at, Math.min(chunkSize, left));
      if (state !== undefined)
        complain(new BrokenRule(at, `chunk ${(at - offset) / chunkIndex.size} ${state}`));
      if (at > offset && (device !== expectedDevice || block !== expectedBlock)) contiguous = false;
      expectedDevice = device;
      expectedBlock = block + chunkSize / blockSize;
    }
    checkFormat(inode, chunkSize, contiguous, complain);
  }

  /** @returns what is wrong with the index of a chunk of `length` bytes. @throws corrupt */
  #wrongIndex(at: number, length: number): string | undefined {
    const { view, blobs } = this.#image;
    const device = X.device.read(view, at);
    const block = X.block.read(view, at);
    const ordinal = X.ordinalLow.read(view, at) | ((device >> 8) << 16);
    const blob = (device & 0xff) - 1;
    if (blob < 0 || blob >= blobs.length) return "is in no blob";
    const chunks = this.#chunks[blob];
    const i = chunks?.positions.get(block);
    if (i === undefined && !this.#sound) return "is not in the chunk table";
    if (chunks === undefined || i === undefined) return this.#indexed.add(blob, { block, ordinal, length });
    if (chunks.ordinals[i] !== ordinal) return "has another ordinal than its record";
    if (chunks.map.uncompressedLength[i] !== length) return "has not the size of its record";
    return undefined;
  }

  /** Whether the chunk table has had all chunks so far. */
  get complete(): boolean {
    return this.#indexed.count === 0;
  }

  /** When all files were looked at. @throws corrupt */
  finish(): void {
    this.#indexed.check(this.#chunks);
  }
}

/** Each ordinal once, and within what the blob has. */
function checkOrdinals(
  { map, ordinals }: BlobChunks,
  chunkCount: number,
  bad: (state: string) => void,
): void {
  const sorted = ordinals.toSorted();
  if ((sorted.at(-1) ?? -1) >= chunkCount)
    bad(`a chunk of blob ${map.blobId} has ordinal ${sorted.at(-1)} of ${chunkCount}`);
  for (let i = 1; i < sorted.length; i++)
    if (sorted[i] === sorted[i - 1]) bad(`two chunks of blob ${map.blobId} have ordinal ${sorted[i]}`);
}

/**
 * The kernel takes the chunk size from the inode. Where it is not the image's, it must cover the whole file, whose
 * chunks then lie side by side: the kernel looks at the first index only.
 */
function checkFormat(inode: RawInode, chunkSize: number, contiguous: boolean, complain: Complain): void {
  const format = inode.union;
  const bad = (state: string): void => complain(new BrokenRule(inode.at, `the file has ${state}`));
  if ((format & ~(CHUNK_BITS | CHUNK_INDEXES)) !== 0 || (format & CHUNK_INDEXES) === 0)
    return bad(`unknown chunk format 0x${format.toString(16)}`);
  const kernelSize = inode.blockSize * 2 ** (format & CHUNK_BITS);
  if (kernelSize === chunkSize) return;
  if (kernelSize < inode.size || !contiguous)
    bad(`chunks of ${kernelSize} bytes in an image with ${chunkSize}`);
}
