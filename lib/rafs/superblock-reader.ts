/**
 * Reads and checks the superblocks of a v6 bootstrap. What other programs write and we cannot serve is `unsupported`,
 * with the feature's name; everything else out of line is `corrupt`.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import { isPowerOfTwo } from "../base/math.ts";
import type { RecordOf } from "../base/struct.ts";
import { blobEntry } from "./blob-table.ts";
import { chunkRecord } from "./chunk-record.ts";
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import {
  COMPRESSOR_FLAGS,
  DIGESTER_FLAGS,
  KNOWN_SUPERBLOCK_FLAGS,
  onlyFlag,
  SUPERBLOCK_FLAGS,
} from "./flags.ts";
import {
  BLOCK_BITS,
  BLOCK_SIZE,
  COMPAT_RAFS_V6,
  EROFS_MAGIC,
  EXTENSION_OFFSET,
  extension,
  INCOMPAT,
  MAX_CHUNK_SIZE,
  MIN_CHUNK_SIZE,
  RAFS_V5_MAGIC,
  type Region,
  SLOT_OFFSET,
  SUPERBLOCK_OFFSET,
  type Superblock,
  superblock,
  TAR_BLOCK_BITS,
} from "./superblock.ts";

type ErofsFields = RecordOf<typeof superblock.fields>;
type ExtensionFields = RecordOf<typeof extension.fields>;

export function unreadable(state: string): NydusError {
  return corrupt(`Cannot read the bootstrap: ${state}`);
}

export function unsupported(feature: string): NydusError {
  return new NydusError("unsupported", `Cannot use the bootstrap: ${feature}`);
}

function require(condition: boolean, state: string): void {
  if (!condition) throw unreadable(state);
}

/** @throws corrupt, unsupported */
export function readSuperblock(view: DataView): Superblock {
  if (view.byteLength >= 4 && view.getUint32(0, true) === RAFS_V5_MAGIC)
    throw unsupported("it is RAFS v5, not v6");
  require(view.byteLength >= 2 * BLOCK_SIZE, `it has ${view.byteLength} bytes, less than two blocks`);
  const erofs = superblock.read(view, SUPERBLOCK_OFFSET);
  require(erofs.magic === EROFS_MAGIC, "there is no EROFS superblock at 1024");
  require((erofs.compat & COMPAT_RAFS_V6) !== 0, "it is an EROFS image, but not of RAFS v6");
  const ext = extension.read(view, EXTENSION_OFFSET);
  const flags = readFlags(ext.flags);
  const tarfs = (flags.flags & SUPERBLOCK_FLAGS.tarfs) !== 0;
  require(!tarfs || flags.digester === "sha256", "it is in tarfs mode, but not with SHA-256");
  const blockSize = 2 ** (tarfs ? TAR_BLOCK_BITS : BLOCK_BITS);
  checkErofs(erofs, view.byteLength, blockSize);
  const tables = readTables(ext, erofs.devices, view.byteLength);
  require(isPowerOfTwo(ext.chunkSize) &&
    ext.chunkSize >= MIN_CHUNK_SIZE &&
    ext.chunkSize <= MAX_CHUNK_SIZE, `chunk size ${ext.chunkSize} is not a power of two from 4096 to 16 MiB`);
  return {
    inodes: erofs.inodes,
    blocks: erofs.blocks,
    rootNid: erofs.rootNid,
    blockSize,
    tarfs,
    metaOffset: erofs.metaBlock * blockSize,
    devices: erofs.devices,
    chunkSize: ext.chunkSize,
    ...flags,
    ...tables,
  };
}

function readFlags(stored: bigint): Pick<Superblock, "flags" | "compressor" | "digester"> {
  require(stored <= 0xffff_ffffn, `superblock flags 0x${stored.toString(16)} are not known`);
  const flags = Number(stored);
  const unknown = (flags & ~KNOWN_SUPERBLOCK_FLAGS) >>> 0;
  require(unknown === 0, `superblock flags 0x${unknown.toString(16)} are not known`);
  const compressor = onlyFlag(flags, COMPRESSOR_FLAGS);
  if (compressor === undefined) throw unreadable("its flags do not name exactly one compressor");
  const digester = onlyFlag(flags, DIGESTER_FLAGS);
  if (digester === undefined) throw unreadable("its flags do not name exactly one digest algorithm");
  return { flags, compressor, digester };
}

/** Features that the kernel would act upon, and that no v6 bootstrap has, are refused too. */
function checkErofs(erofs: ErofsFields, length: number, blockSize: number): void {
  require(2 ** erofs.blockBits === blockSize, `block size 2^${erofs.blockBits} is not ${blockSize}`);
  require(length % BLOCK_SIZE === 0, `its length ${length} is not a multiple of 4096`);
  require(erofs.checksum === 0, "it has a superblock checksum");
  require(erofs.compat ===
    COMPAT_RAFS_V6, `compatible features 0x${erofs.compat.toString(16)} are not known`);
  require(erofs.incompat ===
    INCOMPAT, `incompatible features are 0x${erofs.incompat.toString(16)} instead of 0xc`);
  require(erofs.extraSlots === 0 && erofs.union === 0, "the superblock has extensions that v6 does not have");
  require(erofs.directoryBits === 0, "directory blocks are not as large as blocks");
  require(erofs.rest.every((byte) => byte === 0), "reserved bytes of the superblock are not zero");
  require(erofs.xattrBlock === 0, "it has a shared xattr area");
  require(erofs.inodes !== 0, "it has no inodes");
  require(erofs.slotOffset ===
    SLOT_OFFSET, `device slots start at slot ${erofs.slotOffset} instead of ${SLOT_OFFSET}`);
  require(erofs.metaBlock * blockSize < length, "the metadata base lies past the end");
}

function readTables(
  ext: ExtensionFields,
  devices: number,
  length: number,
): Pick<Superblock, "blobTable" | "chunkTable" | "prefetchTable"> {
  const slotsEnd = SLOT_TABLE_OFFSET + devices * deviceSlot.size;
  const table = (name: string, offset: number, size: number, unit: number, alignment: number): Region => {
    require(size % unit === 0, `the ${name} table's size ${size} is not a multiple of ${unit}`);
    if (size === 0) return { offset, size };
    require(offset % alignment === 0 &&
      offset >= BLOCK_SIZE &&
      offset >= slotsEnd, `the ${name} table cannot start at ${offset}`);
    require(offset + size <= length, `the ${name} table ends past the end of the file`);
    return { offset, size };
  };
  const blobTable = table("blob", ext.blobTableOffset, ext.blobTableSize, blobEntry.size, BLOCK_SIZE);
  const chunkTable = table("chunk", ext.chunkTableOffset, ext.chunkTableSize, chunkRecord.size, BLOCK_SIZE);
  const prefetchTable = table("prefetch", ext.prefetchTableOffset, ext.prefetchTableSize, 4, 4);
  require(disjoint(blobTable, chunkTable) &&
    disjoint(blobTable, prefetchTable) &&
    disjoint(chunkTable, prefetchTable), "its tables overlap");
  require(slotsEnd <= length &&
    (devices === 0 ||
      slotsEnd <= blobTable.offset), `${devices} device slots do not fit before the blob table`);
  return { blobTable, chunkTable, prefetchTable };
}

function disjoint(a: Region, b: Region): boolean {
  return a.size === 0 || b.size === 0 || a.offset + a.size <= b.offset || b.offset + b.size <= a.offset;
}
