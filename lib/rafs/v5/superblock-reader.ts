/**
 * Reads and checks the superblock of a v5 bootstrap.
 *
 * @module
 */
import { isPowerOfTwo } from "../../base/math.ts";
import type { RecordOf } from "../../base/struct.ts";
import { BrokenRule, type Complain, Fatal, refuse } from "../broken-rule.ts";
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

export function isV5(bytes: Uint8Array): boolean {
  return (
    bytes.byteLength >= 4 && new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) === RAFS_V5_MAGIC
  );
}

/** @throws corrupt, unsupported: what `complain` makes of broken rules, and at once where nothing can be read */
export function readSuperblock(view: DataView, complain: Complain = refuse): Superblock {
  const { byteLength } = view;
  if (byteLength <= SUPERBLOCK_SIZE)
    throw unreadable(`it has ${byteLength} bytes, no more than a superblock`);
  if (byteLength > MAX_LENGTH) throw unreadable(`it has ${byteLength} bytes, more than 2 GiB`);
  const stored = superblock.read(view);
  if (stored.magic !== RAFS_V5_MAGIC) throw unreadable("there is no RAFS v5 superblock");
  if (stored.version !== V5_VERSION) throw unsupported(`it is RAFS version 0x${stored.version.toString(16)}`);
  if (byteLength % ALIGNMENT !== 0) complain(unreadable(`its length ${byteLength} is not a multiple of 8`));
  const { chunkSize, inodes, inodeTableEntries: entries } = stored;
  if (stored.size !== SUPERBLOCK_SIZE)
    complain(new BrokenRule(placeOf("size"), `its superblock claims ${stored.size} bytes`));
  if (inodes > entries)
    complain(new BrokenRule(placeOf("inodes"), `it claims ${inodes} inodes, its inode table has ${entries}`));
  const flags = readFlags(stored.flags, complain);
  const fatal = new Fatal();
  if (!isPowerOfTwo(chunkSize) || chunkSize < MIN_CHUNK_SIZE || chunkSize > MAX_CHUNK_SIZE) {
    const state = `chunk size ${chunkSize} is not a power of two from 4096 to 16 MiB`;
    fatal.add(new BrokenRule(placeOf("chunkSize"), state));
  }
  if (entries === 0) fatal.add(new BrokenRule(placeOf("inodeTableEntries"), "it has no inodes"));
  const tables = readTables(stored, byteLength, fatal);
  fatal.throw(complain);
  return { chunkSize, inodes, ...flags, ...tables };
}

type Stored = RecordOf<typeof superblock.fields>;

function placeOf(field: keyof Stored): number {
  return superblock.fields[field].offset;
}

function readFlags(
  stored: bigint,
  complain: Complain,
): Pick<Superblock, "flags" | "compressor" | "digester"> {
  const bad = (state: string): void => complain(new BrokenRule(placeOf("flags"), state));
  if (stored > 0xffff_ffffn) bad(`superblock flags 0x${stored.toString(16)} are not known`);
  const flags = Number(stored & 0xffff_ffffn);
  const unknown = (flags & ~KNOWN_FLAGS) >>> 0;
  if (unknown !== 0) bad(`superblock flags 0x${unknown.toString(16)} are not known`);
  // The reference writes neither into v5.
  if ((flags & SUPERBLOCK_FLAGS.tarfs) !== 0) throw unsupported("it is RAFS v5 in tarfs mode");
  if ((flags & SUPERBLOCK_FLAGS.encryptionXts) !== 0) throw unsupported("it is RAFS v5 with encrypted blobs");
  const compressor = onlyFlag(flags, COMPRESSOR_FLAGS);
  if (compressor === undefined) bad("its flags do not name exactly one compressor");
  const digester = onlyFlag(flags, DIGESTER_FLAGS);
  if (digester === undefined) bad("its flags do not name exactly one digest algorithm");
  return { flags, compressor: compressor ?? "none", digester: digester ?? "sha256" };
}

type Tables = Pick<Superblock, "inodeTable" | "prefetchTable" | "blobTable" | "extendedTable">;

function readTables(stored: Stored, length: number, fatal: Fatal): Tables {
  const taken: Region[] = [];
  const table = (field: keyof Stored & `${string}TableOffset`, name: string, size: number): Region => {
    const offset = stored[field];
    const rule = (holds: boolean, state: string): void => {
      if (!holds) fatal.add(new BrokenRule(placeOf(field), state));
    };
    if (size === 0) return { offset, size };
    const starts = offset % ALIGNMENT === 0 && offset >= SUPERBLOCK_SIZE;
    rule(starts, `the ${name} table cannot start at ${offset}`);
    rule(offset + size <= length, `the ${name} table ends past the end of the file`);
    const apart = taken.every(
      (other) => offset + size <= other.offset || other.offset + other.size <= offset,
    );
    rule(apart, "its tables overlap");
    taken.push({ offset, size });
    return { offset, size };
  };
  return {
    inodeTable: table("inodeTableOffset", "inode", 4 * stored.inodeTableEntries),
    prefetchTable: table("prefetchTableOffset", "prefetch", 4 * stored.prefetchTableEntries),
    blobTable: table("blobTableOffset", "blob", stored.blobTableSize),
    extendedTable: table(
      "extendedTableOffset",
      "extended blob",
      extendedEntry.size * stored.extendedTableEntries,
    ),
  };
}
