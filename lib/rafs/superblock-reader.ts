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
import { BrokenRule, type Complain, Fatal, refuse } from "./broken-rule.ts";
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
  TAR_BLOCK_SIZE,
} from "./superblock.ts";

type ErofsFields = RecordOf<typeof superblock.fields>;
type ExtensionFields = RecordOf<typeof extension.fields>;

export function unreadable(state: string): NydusError {
  return corrupt(`Cannot read the bootstrap: ${state}`);
}

export function unsupported(feature: string): NydusError {
  return new NydusError("unsupported", `Cannot use the bootstrap: ${feature}`);
}

/** @throws corrupt, unsupported: what `complain` makes of broken rules, and at once where nothing can be read */
export function readSuperblock(view: DataView, complain: Complain = refuse): Superblock {
  const length = view.byteLength;
  if (length >= 4 && view.getUint32(0, true) === RAFS_V5_MAGIC) throw unsupported("it is RAFS v5, not v6");
  if (length < 2 * BLOCK_SIZE) throw unreadable(`it has ${length} bytes, less than two blocks`);
  const erofs = superblock.read(view, SUPERBLOCK_OFFSET);
  if (erofs.magic !== EROFS_MAGIC)
    throw new BrokenRule(SUPERBLOCK_OFFSET, "there is no EROFS superblock at 1024");
  if ((erofs.compat & COMPAT_RAFS_V6) === 0)
    throw new BrokenRule(erofsAt("compat"), "it is an EROFS image, but not of RAFS v6");
  const ext = extension.read(view, EXTENSION_OFFSET);
  const flags = readFlags(ext.flags, complain);
  const tarfs = (flags.flags & SUPERBLOCK_FLAGS.tarfs) !== 0;
  if (tarfs && flags.digester !== "sha256")
    complain(new BrokenRule(extensionAt("flags"), "it is in tarfs mode, but not with SHA-256"));
  const blockSize = tarfs ? TAR_BLOCK_SIZE : BLOCK_SIZE;
  checkErofs(erofs, length, complain);
  const fatal = new Fatal();
  checkGeometry(erofs, ext.chunkSize, { length, blockSize }, fatal);
  const tables = readTables(ext, erofs.devices, length, fatal);
  fatal.throw(complain);
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

function erofsAt(field: keyof ErofsFields): number {
  return SUPERBLOCK_OFFSET + superblock.fields[field].offset;
}

function extensionAt(field: keyof ExtensionFields): number {
  return EXTENSION_OFFSET + extension.fields[field].offset;
}

function readFlags(
  stored: bigint,
  complain: Complain,
): Pick<Superblock, "flags" | "compressor" | "digester"> {
  const bad = (state: string): void => complain(new BrokenRule(extensionAt("flags"), state));
  if (stored > 0xffff_ffffn) bad(`superblock flags 0x${stored.toString(16)} are not known`);
  const flags = Number(stored & 0xffff_ffffn);
  const unknown = (flags & ~KNOWN_SUPERBLOCK_FLAGS) >>> 0;
  if (unknown !== 0) bad(`superblock flags 0x${unknown.toString(16)} are not known`);
  const compressor = onlyFlag(flags, COMPRESSOR_FLAGS);
  if (compressor === undefined) bad("its flags do not name exactly one compressor");
  const digester = onlyFlag(flags, DIGESTER_FLAGS);
  if (digester === undefined) bad("its flags do not name exactly one digest algorithm");
  return { flags, compressor: compressor ?? "none", digester: digester ?? "sha256" };
}

/** Features that the kernel would act upon, and that no v6 bootstrap has, are refused too. */
function checkErofs(erofs: ErofsFields, length: number, complain: Complain): void {
  const hex = (bits: number): string => `0x${bits.toString(16)}`;
  const rule = (holds: boolean, field: keyof ErofsFields, state: string): void => {
    if (!holds) complain(new BrokenRule(erofsAt(field), state));
  };
  const { compat, incompat, slotOffset } = erofs;
  if (length % BLOCK_SIZE !== 0) complain(unreadable(`its length ${length} is not a multiple of 4096`));
  rule(erofs.checksum === 0, "checksum", "it has a superblock checksum");
  rule(compat === COMPAT_RAFS_V6, "compat", `compatible features ${hex(compat)} are not known`);
  rule(incompat === INCOMPAT, "incompat", `incompatible features are ${hex(incompat)} instead of 0xc`);
  rule(erofs.extraSlots === 0, "extraSlots", "the superblock has extensions that v6 does not have");
  rule(erofs.union === 0, "union", "the superblock has extensions that v6 does not have");
  rule(erofs.directoryBits === 0, "directoryBits", "directory blocks are not as large as blocks");
  rule(
    erofs.rest.every((byte) => byte === 0),
    "rest",
    "reserved bytes of the superblock are not zero",
  );
  rule(erofs.xattrBlock === 0, "xattrBlock", "it has a shared xattr area");
  rule(erofs.inodes !== 0, "inodes", "it has no inodes");
  const slots = `device slots start at slot ${slotOffset} instead of ${SLOT_OFFSET}`;
  rule(slotOffset === SLOT_OFFSET, "slotOffset", slots);
}

/** Without these, no place in the file can be found. */
function checkGeometry(
  { blockBits, metaBlock }: ErofsFields,
  chunkSize: number,
  { length, blockSize }: { readonly length: number; readonly blockSize: number },
  fatal: Fatal,
): void {
  if (2 ** blockBits !== blockSize)
    fatal.add(new BrokenRule(erofsAt("blockBits"), `block size 2^${blockBits} is not ${blockSize}`));
  if (metaBlock * blockSize >= length)
    fatal.add(new BrokenRule(erofsAt("metaBlock"), "the metadata base lies past the end"));
  if (!isPowerOfTwo(chunkSize) || chunkSize < MIN_CHUNK_SIZE || chunkSize > MAX_CHUNK_SIZE) {
    const state = `chunk size ${chunkSize} is not a power of two from 4096 to 16 MiB`;
    fatal.add(new BrokenRule(extensionAt("chunkSize"), state));
  }
}

function readTables(
  ext: ExtensionFields,
  devices: number,
  length: number,
  fatal: Fatal,
): Pick<Superblock, "blobTable" | "chunkTable" | "prefetchTable"> {
  const slotsEnd = SLOT_TABLE_OFFSET + devices * deviceSlot.size;
  const table = (name: "blob" | "chunk" | "prefetch", unit: number, alignment: number): Region => {
    const offset = ext[`${name}TableOffset`];
    const size = ext[`${name}TableSize`];
    const rule = (holds: boolean, state: string): void => {
      if (!holds) fatal.add(new BrokenRule(extensionAt(`${name}TableOffset`), `the ${name} table${state}`));
    };
    rule(size % unit === 0, `'s size ${size} is not a multiple of ${unit}`);
    if (size === 0) return { offset, size };
    const starts = offset % alignment === 0 && offset >= BLOCK_SIZE && offset >= slotsEnd;
    rule(starts, ` cannot start at ${offset}`);
    rule(offset + size <= length, " ends past the end of the file");
    return { offset, size };
  };
  const blobTable = table("blob", blobEntry.size, BLOCK_SIZE);
  const chunkTable = table("chunk", chunkRecord.size, BLOCK_SIZE);
  const prefetchTable = table("prefetch", 4, 4);
  if (
    !disjoint(blobTable, chunkTable) ||
    !disjoint(blobTable, prefetchTable) ||
    !disjoint(chunkTable, prefetchTable)
  )
    fatal.add(new BrokenRule(EXTENSION_OFFSET, "its tables overlap"));
  if (slotsEnd > length || (devices !== 0 && slotsEnd > blobTable.offset))
    fatal.add(new BrokenRule(erofsAt("devices"), `${devices} device slots do not fit before the blob table`));
  return { blobTable, chunkTable, prefetchTable };
}

function disjoint(a: Region, b: Region): boolean {
  return a.size === 0 || b.size === 0 || a.offset + a.size <= b.offset || b.offset + b.size <= a.offset;
}
