/**
 * Reads directory blocks.
 *
 * @module
 */
import { type ByteString, byteString, bytesOf } from "../base/byte-string.ts";
import { dirent, ENTRY_TYPES, MAX_NAME } from "./dirent.ts";
import type { Kind } from "./inode.ts";
import { blockCount, dataBlock, type RawInode } from "./inode-reader.ts";
import type { Region } from "./superblock.ts";
import { unreadable } from "./superblock-reader.ts";

export interface DirectoryEntry {
  readonly name: ByteString;
  readonly nid: number;
  readonly type: Kind;
}

const D = dirent.fields;
const KIND_OF_TYPE = new Map<number, Kind>(
  (Object.keys(ENTRY_TYPES) as Kind[]).map((kind) => [ENTRY_TYPES[kind], kind]),
);

/** Entries of one block; the first entry's name offset tells how many there are. @throws corrupt */
export function entryCount(view: DataView, block: Region): number {
  const first = block.size < dirent.size ? 0 : D.nameOffset.read(view, block.offset);
  if (first < dirent.size || first % dirent.size !== 0 || first >= block.size)
    throw unreadable(`the directory block at ${block.offset} does not start with entries`);
  return first / dirent.size;
}

/** The bytes of name `k` of `count`: it ends where the next begins; the last one at a NUL or the block's end. */
function nameRegion(view: DataView, block: Region, k: number, count: number): Region {
  const entry = block.offset + k * dirent.size;
  const start = D.nameOffset.read(view, entry);
  const limit = k + 1 < count ? D.nameOffset.read(view, entry + dirent.size) : block.size;
  if (start < count * dirent.size || limit <= start || limit > block.size)
    throw unreadable(`directory entry at ${entry} has its name nowhere`);
  let end = limit;
  if (k + 1 === count) {
    end = start;
    while (end < limit && view.getUint8(block.offset + end) !== 0) end++;
  }
  if (end === start || end - start > MAX_NAME)
    throw unreadable(`directory entry at ${entry} has a name of ${end - start} bytes`);
  return { offset: block.offset + start, size: end - start };
}

function bytesAt(view: DataView, region: Region): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + region.offset, region.size);
}

/** All entries in order, `.` and `..` among them. @throws corrupt */
export function* readDirectory(view: DataView, inode: RawInode): Generator<DirectoryEntry> {
  for (let b = 0; b < blockCount(inode); b++) {
    const block = dataBlock(view, inode, b);
    const count = entryCount(view, block);
    for (let k = 0; k < count; k++) {
      const entry = block.offset + k * dirent.size;
      const type = KIND_OF_TYPE.get(D.type.read(view, entry));
      if (type === undefined) throw unreadable(`directory entry at ${entry} has an unknown type`);
      yield {
        name: byteString(bytesAt(view, nameRegion(view, block, k, count))),
        nid: D.nid.read(view, entry),
        type,
      };
    }
  }
}

/** Binary search over the blocks' first names, then inside one block. @throws corrupt */
export function lookupName(view: DataView, inode: RawInode, name: ByteString): number | undefined {
  const wanted = bytesOf(name);
  const compare = (block: Region, k: number, count: number): number =>
    Buffer.compare(bytesAt(view, nameRegion(view, block, k, count)), wanted);
  let low = 0;
  let high = blockCount(inode) - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    const block = dataBlock(view, inode, middle);
    if (compare(block, 0, entryCount(view, block)) <= 0) low = middle;
    else high = middle - 1;
  }
  if (high < 0) return undefined;
  const block = dataBlock(view, inode, low);
  const count = entryCount(view, block);
  let [from, to] = [0, count - 1];
  while (from <= to) {
    const middle = (from + to) >> 1;
    const order = compare(block, middle, count);
    if (order === 0) return D.nid.read(view, block.offset + middle * dirent.size);
    if (order < 0) from = middle + 1;
    else to = middle - 1;
  }
  return undefined;
}
