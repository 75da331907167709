/**
 * Checks the chunk table, and the chunk indexes of files against it: the kernel follows the indexes, our fetching the
 * table, and both must mean the same bytes.
 *
 * @module
 */
import type { Bootstrap } from "./bootstrap.ts";
import { type BlobChunks, readChunks } from "./chunk-maps.ts";
import { IndexedChunks } from "./indexed-chunks.ts";
import { CHUNK_BITS, CHUNK_INDEXES, chunkIndex } from "./inode.ts";
import { chunkIndexes, type RawInode } from "./inode-reader.ts";
import { unreadable } from "./superblock-reader.ts";

const X = chunkIndex.fields;

export class ChunkChecker {
  readonly #image: Bootstrap;
  readonly #chunks: readonly BlobChunks[];
  /** Of images that have no chunk table. */
  readonly #indexed: IndexedChunks;

  /** @throws corrupt when the chunk table itself is wrong */
  constructor(image: Bootstrap) {
    this.#image = image;
    this.#indexed = new IndexedChunks(image);
    // In tarfs it has a record a blob, which says nothing.
    this.#chunks = image.superblock.tarfs ? [] : readChunks(image);
    for (const [i, chunks] of this.#chunks.entries()) checkOrdinals(chunks, image.blobs[i]?.chunkCount ?? 0);
  }

  /** Bytes of the file's chunk indexes. @throws corrupt when they are not in the bootstrap */
  indexSize(inode: RawInode): number {
    return chunkIndexes(this.#image.view, inode, this.#image.superblock.chunkSize).size;
  }

  /** @throws corrupt */
  check(inode: RawInode): void {
    const { view, superblock } = this.#image;
    const { chunkSize, blockSize } = superblock;
    const { offset, size } = chunkIndexes(view, inode, chunkSize);
    let contiguous = true;
    let expectedDevice = -1;
    let expectedBlock = -1;
    for (let at = offset, left = inode.size; at < offset + size; at += chunkIndex.size, left -= chunkSize) {
      const device = X.device.read(view, at);
      const block = X.block.read(view, at);
      const blob = (device & 0xff) - 1;
      const ordinal = X.ordinalLow.read(view, at) | ((device >> 8) << 16);
      const length = Math.min(chunkSize, left);
      if (blob < 0 || blob >= this.#image.blobs.length) throw wrong(at, offset, "is in no blob");
      const chunks = this.#chunks[blob];
      const i = chunks?.positions.get(block);
      if (chunks === undefined) this.#indexed.add(blob, { block, ordinal, length });
      else if (i === undefined) throw wrong(at, offset, "is not in the chunk table");
      else if (chunks.ordinals[i] !== ordinal) throw wrong(at, offset, "has another ordinal than its record");
      else if (chunks.map.uncompressedLength[i] !== length)
        throw wrong(at, offset, "has not the size of its record");
      if (at > offset && ((device & 0xff) !== expectedDevice || block !== expectedBlock)) contiguous = false;
      expectedDevice = device & 0xff;
      expectedBlock = block + chunkSize / blockSize;
    }
    checkFormat(inode, chunkSize, contiguous);
  }

  /** When all files were looked at. @throws corrupt */
  finish(): void {
    this.#indexed.check(this.#chunks);
  }
}

function wrong(at: number, offset: number, state: string): Error {
  return unreadable(`chunk ${(at - offset) / chunkIndex.size} ${state}`);
}

/** Each ordinal once, and within what the blob has. */
function checkOrdinals({ map, ordinals }: BlobChunks, chunkCount: number): void {
  const sorted = ordinals.toSorted();
  if ((sorted.at(-1) ?? -1) >= chunkCount)
    throw unreadable(`a chunk of blob ${map.blobId} has ordinal ${sorted.at(-1)} of ${chunkCount}`);
  for (let i = 1; i < sorted.length; i++)
    if (sorted[i] === sorted[i - 1])
      throw unreadable(`two chunks of blob ${map.blobId} have ordinal ${sorted[i]}`);
}

/**
 * The kernel takes the chunk size from the inode. Where it is not the image's, it must cover the whole file, whose
 * chunks then lie side by side: the kernel looks at the first index only.
 */
function checkFormat(inode: RawInode, chunkSize: number, contiguous: boolean): void {
  const format = inode.union;
  if ((format & ~(CHUNK_BITS | CHUNK_INDEXES)) !== 0 || (format & CHUNK_INDEXES) === 0)
    throw unreadable(`the file has unknown chunk format 0x${format.toString(16)}`);
  const kernelSize = inode.blockSize * 2 ** (format & CHUNK_BITS);
  if (kernelSize === chunkSize) return;
  if (kernelSize < inode.size || !contiguous)
    throw unreadable(`the file has chunks of ${kernelSize} bytes in an image with ${chunkSize}`);
}
