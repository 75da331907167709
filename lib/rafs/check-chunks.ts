/**
 * Checks the chunk indexes of files against the chunk table: the kernel follows the indexes, our fetching the table,
 * and both must mean the same bytes.
 *
 * @module
 */
import type { Bootstrap } from "./bootstrap.ts";
import { chunkMaps } from "./chunk-maps.ts";
import { chunkRecord } from "./chunk-record.ts";
import { CHUNK_BITS, CHUNK_INDEXES, chunkIndex } from "./inode.ts";
import { chunkIndexes, type RawInode } from "./inode-reader.ts";
import { BLOCK_SIZE } from "./superblock.ts";
import { unreadable } from "./superblock-reader.ts";

const R = chunkRecord.fields;
const X = chunkIndex.fields;
const LARGEST_FILE = 2 ** 44;

export class ChunkIndexChecker {
  readonly #image: Bootstrap;
  /** Where the record of a chunk is, by device and block: device * 2^32 + block. */
  readonly #records = new Map<number, number>();

  /** @throws corrupt when the chunk table itself is wrong */
  constructor(image: Bootstrap) {
    this.#image = image;
    chunkMaps(image);
    const { offset, size } = image.superblock.chunkTable;
    for (let at = offset; at < offset + size; at += chunkRecord.size) {
      const block = R.uncompressedOffset.read(image.view, at) / BLOCK_SIZE;
      this.#records.set(R.blob.read(image.view, at) * 2 ** 32 + block, at);
    }
  }

  /** @throws corrupt */
  check(inode: RawInode): void {
    const { view, superblock, blobs } = this.#image;
    const { chunkSize } = superblock;
    if (inode.size > LARGEST_FILE) throw unreadable(`the file claims ${inode.size} bytes`);
    const indexes = chunkIndexes(view, inode, chunkSize);
    let contiguous = true;
    let expected = -1;
    for (let k = 0; k * chunkSize < inode.size; k++) {
      const at = indexes.offset + k * chunkIndex.size;
      const device = X.device.read(view, at);
      const blob = (device & 0xff) - 1;
      const block = X.block.read(view, at);
      if (blob < 0 || blob >= blobs.length) throw unreadable(`chunk ${k} is in no blob`);
      const place = blob * 2 ** 32 + block;
      const record = this.#records.get(place);
      if (record === undefined) throw unreadable(`chunk ${k} is not in the chunk table`);
      this.#match(
        record,
        X.ordinalLow.read(view, at) | ((device >> 8) << 16),
        k,
        Math.min(chunkSize, inode.size - k * chunkSize),
      );
      contiguous &&= expected === -1 || place === expected;
      expected = place + chunkSize / BLOCK_SIZE;
    }
    checkFormat(inode, chunkSize, contiguous);
  }

  #match(record: number, ordinal: number, k: number, length: number): void {
    const { view } = this.#image;
    if (R.index.read(view, record) !== ordinal)
      throw unreadable(`chunk ${k} has another ordinal than its record`);
    const stored = R.uncompressedSize.read(view, record);
    if (stored !== length) throw unreadable(`chunk ${k} has ${stored} bytes instead of ${length}`);
  }
}

/**
 * The kernel takes the chunk size from the inode. Where it is not the image's, it must cover the whole file, whose
 * chunks then lie side by side: the kernel looks at the first index only.
 */
function checkFormat(inode: RawInode, chunkSize: number, contiguous: boolean): void {
  const format = inode.union;
  if ((format & ~(CHUNK_BITS | CHUNK_INDEXES)) !== 0 || (format & CHUNK_INDEXES) === 0) {
    throw unreadable(`the file has unknown chunk format 0x${format.toString(16)}`);
  }
  const kernelSize = BLOCK_SIZE * 2 ** (format & CHUNK_BITS);
  if (kernelSize === chunkSize) return;
  if (kernelSize < inode.size || !contiguous) {
    throw unreadable(`the file has chunks of ${kernelSize} bytes in an image with ${chunkSize}`);
  }
}
