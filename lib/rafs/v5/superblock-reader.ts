/**
 * Reads and checks the superblock of a v5 bootstrap.
 *
 * @module
 */
import { isPowerOfTwo } from "../../base/math.ts";
import type { RecordOf } from "../../base/struct.ts";
import { COMPRESSOR_FLAGS, DIGESTER_FLAGS, onlyFlag, SUPERBLOCK_FLAGS } from "../flags.ts";
import { MAX_CHUNK_SIZE, MIN_CHUNK_SIZE, RAFS_V5_MAGIC, type Region } from "../superblock.ts";
import { unreadable, unsupported } from "../superblock-reader.ts";
import { extendedEntry } from "./blob-table.ts";
import {
  ALIGNMENT,
  MAX_LENGTH,
  SUPERBLOCK_SIZE,
  type Superblock,
  superblock,
  V5_VERSION,
} from "./superblock.ts";

/** Six high bits are reserved for compatible additions. */
const TOLERATED_FLAGS = 0xfc00_0000;
const KNOWN_FLAGS =
  (Object.values(SUPERBLOCK_FLAGS).reduce((all, bit) => all | bit, 0) | TOLERATED_FLAGS) >>> 0;

function require(condition: boolean, state: string): void {
  if (!condition) throw unreadable(state);
}

export function isV5(bytes: Uint8Array): boolean {
  return (
    bytes.byteLength >= 4 && new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) === RAFS_V5_MAGIC
  );
}

/** @throws corrupt, unsupported */
export function readSuperblock(view: DataView): Superblock {
  const { byteLength } = view;
  require(byteLength > SUPERBLOCK_SIZE, `it has ${byteLength} bytes, no more than a superblock`);
  require(byteLength % ALIGNMENT === 0, `its length ${byteLength} is not a multiple of 8`);
  require(byteLength <= MAX_LENGTH, `it has ${byteLength} bytes, more than 2 GiB`);
  const stored = superblock.read(view);
  require(stored.magic === RAFS_V5_MAGIC, "there is no RAFS v5 superblock");
  if (stored.version !== V5_VERSION) throw unsupported(`it is RAFS version 0x${stored.version.toString(16)}`);
  require(stored.size === SUPERBLOCK_SIZE, `its superblock claims ${stored.size} bytes`);
  const { chunkSize, inodes, inodeTableEntries } = stored;
  require(isPowerOfTwo(chunkSize) &&
    chunkSize >= MIN_CHUNK_SIZE &&
    chunkSize <= MAX_CHUNK_SIZE, `chunk size ${chunkSize} is not a power of two from 4096 to 16 MiB`);
  require(inodeTableEntries > 0, "it has no inodes");
  require(inodes <=
    inodeTableEntries, `it claims ${inodes} inodes, its inode table has ${inodeTableEntries}`);
  return { chunkSize, inodes, ...readFlags(stored.flags), ...readTables(stored, byteLength) };
}

function readFlags(stored: bigint): Pick<Superblock, "flags" | "compressor" | "digester"> {
  require(stored <= 0xffff_ffffn, `superblock flags 0x${stored.toString(16)} are not known`);
  const flags = Number(stored);
  const unknown = (flags & ~KNOWN_FLAGS) >>> 0;
  require(unknown === 0, `superblock flags 0x${unknown.toString(16)} are not known`);
  // The reference writes neither into v5.
  if ((flags & SUPERBLOCK_FLAGS.tarfs) !== 0) throw unsupported("it is RAFS v5 in tarfs mode");
  if ((flags & SUPERBLOCK_FLAGS.encryptionXts) !== 0) throw unsupported("it is RAFS v5 with encrypted blobs");
  const compressor = onlyFlag(flags, COMPRESSOR_FLAGS);
  if (compressor === undefined) throw unreadable("its flags do not name exactly one compressor");
  const digester = onlyFlag(flags, DIGESTER_FLAGS);
  if (digester === undefined) throw unreadable("its flags do not name exactly one digest algorithm");
  return { flags, compressor, digester };
}

type Tables = Pick<Superblock, "inodeTable" | "prefetchTable" | "blobTable" | "extendedTable">;

function readTables(stored: RecordOf<typeof superblock.fields>, length: number): Tables {
  const taken: Region[] = [];
  const table = (name: string, offset: number, size: number): Region => {
    if (size === 0) return { offset, size };
    require(offset % ALIGNMENT === 0 &&
      offset >= SUPERBLOCK_SIZE, `the ${name} table cannot start at ${offset}`);
    require(offset + size <= length, `the ${name} table ends past the end of the file`);
    require(taken.every(
      (other) => offset + size <= other.offset || other.offset + other.size <= offset,
    ), "its tables overlap");
    taken.push({ offset, size });
    return { offset, size };
  };
  return {
    inodeTable: table("inode", stored.inodeTableOffset, 4 * stored.inodeTableEntries),
    prefetchTable: table("prefetch", stored.prefetchTableOffset, 4 * stored.prefetchTableEntries),
    blobTable: table("blob", stored.blobTableOffset, stored.blobTableSize),
    extendedTable: table(
      "extended blob",
      stored.extendedTableOffset,
      extendedEntry.size * stored.extendedTableEntries,
    ),
  };
}
