/**
 * Which chunks a cache file holds, on disk: a table beside the data, one record a chunk, rewritten in place when the
 * chunk comes or goes. A record that is torn or damaged claims nothing; what it would have claimed is fetched again.
 *
 * What a claim is worth depends on what happened since; `docs/decisions/chunk-cache.md` has the reasons.
 *
 * @module
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { CHUNK_DIGESTERS, type ChunkDigester } from "../base/digest.ts";
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import { bytes, struct, u32, u64, u64big, viewOf } from "../base/struct.ts";

const MAGIC = 0x4d4c_434e;
const VERSION = 2;

const header = struct(64, {
  magic: u32(0),
  version: u32(4),
  digester: u32(8),
  /** 1 = closed in order, and `changed` is the data file's ctime then. */
  closed: u32(12),
  bootId: bytes(16, 16),
  /** The data file: device, inode, and when it was made (an inode number is used again). */
  device: u64big(32),
  inode: u64big(40),
  born: u64big(48),
  changed: u64big(56),
});

/** 64 bytes from a multiple of 64: a record never lies across two sectors. */
const record = struct(64, {
  offset: u64(0),
  length: u32(8),
  check: u32(12),
  digest: bytes(16, 32),
  state: u32(48),
});

/**
 * "absent": not in the file. "suspect": was there before an unclean stop; must pass its digest before it is used.
 * "stored": written by us. "checked": read back since, and found whole.
 */
export type ChunkState = "absent" | "suspect" | "stored" | "checked";
/** In the order of their numbers on disk. */
export const CHUNK_STATES: readonly ChunkState[] = ["absent", "suspect", "stored", "checked"];

export interface Claim {
  /** Uncompressed offset in the blob, and length. */
  readonly offset: number;
  readonly length: number;
  readonly digest: Uint8Array;
  state: ChunkState;
  /** Which record of the table; undefined while the chunk was never in the file. */
  slot: number | undefined;
}

/** What is there when a table is opened. */
export interface OpenedClaims {
  readonly table: ClaimTable;
  readonly claims: readonly Claim[];
  /** Whether the last user of the file closed it in order, and nobody touched it since. */
  readonly clean: boolean;
}

type Identity = Pick<ReturnType<typeof header.read>, "bootId" | "device" | "inode" | "born">;

function identityOf(dataFd: number): Identity {
  const text = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").replaceAll(/[^0-9a-f]/g, "");
  const { dev, ino, birthtimeNs } = fstatSync(dataFd, { bigint: true });
  return { bootId: Buffer.from(text, "hex").subarray(0, 16), device: dev, inode: ino, born: birthtimeNs };
}

/** Over the record with its check field zero; catches torn writes and bit rot. */
function checksum(bytesOfRecord: Uint8Array): number {
  const copy = Uint8Array.from(bytesOfRecord);
  copy.fill(0, 12, 16);
  return Bun.hash.crc32(copy);
}

export class ClaimTable implements Disposable {
  readonly #path: string;
  readonly #dataFd: number;
  readonly #digester: ChunkDigester;
  /** Undefined while the disk has no room for it. */
  #fd: number | undefined;
  /** Records in the file, and those among them that claim nothing, the first one last. */
  #slots = 0;
  #free: number[] = [];

  private constructor(path: string, dataFd: number, digester: ChunkDigester) {
    this.#path = path;
    this.#dataFd = dataFd;
    this.#digester = digester;
  }

  /** Opens or starts the table of the data file `dataFd`. One of another version or digester is started over. */
  static open(path: string, dataFd: number, digester: ChunkDigester): OpenedClaims {
    const table = new ClaimTable(path, dataFd, digester);
    const found = existsSync(path) ? readFileSync(path) : new Uint8Array();
    const trust = trustIn(found, dataFd, digester);
    try {
      if (trust === "none")
        return { table, claims: table.#startWith(readClaims(found, digester)), clean: false };
      return { table, claims: table.#goOnWith(found), clean: trust === "whole" };
    } catch (error) {
      if (!isCode(toNydusError(error, "open"), "no_space")) throw error;
      return { table, claims: [], clean: true };
    }
  }

  #startWith(found: readonly Claim[]): readonly Claim[] {
    const kept = found.map((claim, slot): Claim => ({ ...claim, state: "suspect", slot }));
    const head = headerOf(this.#dataFd, this.#digester, false);
    writeFileSync(`${this.#path}.new`, Buffer.concat([head, ...kept.map(encode)]), { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
    this.#fd = openSync(this.#path, "r+");
    this.#slots = kept.length;
    return kept;
  }

  #goOnWith(found: Uint8Array): readonly Claim[] {
    const claims = readClaims(found, this.#digester);
    this.#fd = openSync(this.#path, "r+");
    this.#mark(this.#fd, false);
    this.#slots = Math.floor(found.byteLength / record.size) - 1;
    const taken = new Set(claims.map(({ slot }) => slot));
    for (let slot = this.#slots - 1; slot >= 0; slot--) if (!taken.has(slot)) this.#free.push(slot);
    return claims;
  }

  /**
   * Brings the records of these claims up to date, and gives a record to those that have none. Whoever claims data has
   * written it before; whoever drops data punches it out only after.
   *
   * @throws no_space
   */
  write(claims: readonly Claim[]): void {
    if (claims.length === 0) return;
    if (this.#fd === undefined) this.#startWith([]);
    if (this.#fd === undefined)
      throw new NydusError("no_space", `Cannot write "${this.#path}": the disk is full`);
    const placed = this.#place(claims);
    for (let i = 0; i < placed.length; ) {
      const start = i;
      const first = placed[start]?.slot ?? 0;
      while (i < placed.length && placed[i]?.slot === first + i - start) i++;
      const run = placed.slice(start, i).map(({ claim }) => encode(claim));
      writeWhole(this.#fd, Buffer.concat(run), record.size * (first + 1));
    }
    for (const { claim, slot } of placed) claim.slot = slot;
  }

  #place(claims: readonly Claim[]): { claim: Claim; slot: number }[] {
    const placed = claims.map((claim) => ({ claim, slot: claim.slot ?? this.#free.pop() ?? this.#slots++ }));
    return placed.sort((a, b) => a.slot - b.slot);
  }

  #mark(fd: number, closed: boolean): void {
    writeWhole(fd, headerOf(this.#dataFd, this.#digester, closed), 0);
  }

  /** Call when nothing is written any more. */
  seal(): void {
    if (this.#fd !== undefined) this.#mark(this.#fd, true);
  }

  /** Call before the data file is closed. */
  [Symbol.dispose](): void {
    if (this.#fd === undefined) return;
    this.seal();
    closeSync(this.#fd);
  }
}

function headerOf(dataFd: number, digester: ChunkDigester, closed: boolean): Uint8Array {
  return header.encode({
    magic: MAGIC,
    version: VERSION,
    digester: CHUNK_DIGESTERS[digester],
    closed: closed ? 1 : 0,
    ...identityOf(dataFd),
    changed: closed ? fstatSync(dataFd, { bigint: true }).ctimeNs : 0n,
  });
}

/**
 * "whole": closed in order and untouched since. "memory": the same file in the same boot, but its user was killed: what
 * it wrote is in the page cache. "none": anything may be missing (power cut, copied or restored directory).
 */
function trustIn(found: Uint8Array, dataFd: number, digester: ChunkDigester): "whole" | "memory" | "none" {
  if (found.byteLength < header.size) return "none";
  const was = header.read(viewOf(found));
  const is = identityOf(dataFd);
  const same =
    isOurs(was, digester) &&
    Buffer.compare(was.bootId, is.bootId) === 0 &&
    was.device === is.device &&
    was.inode === is.inode &&
    was.born === is.born;
  if (!same) return "none";
  if (was.closed === 0) return "memory";
  return was.changed === fstatSync(dataFd, { bigint: true }).ctimeNs ? "whole" : "none";
}

function isOurs(was: ReturnType<typeof header.read>, digester: ChunkDigester): boolean {
  return was.magic === MAGIC && was.version === VERSION && was.digester === CHUNK_DIGESTERS[digester];
}

function encode({ offset, length, digest, state }: Claim): Uint8Array {
  const out = record.encode({ offset, length, digest, state: CHUNK_STATES.indexOf(state) });
  record.fields.check.write(viewOf(out), 0, checksum(out));
  return out;
}

/** What the table claims; records that claim nothing are left out. */
function readClaims(table: Uint8Array, digester: ChunkDigester): Claim[] {
  if (table.byteLength < header.size) return [];
  const view = viewOf(table);
  if (!isOurs(header.read(view), digester)) return [];
  const claims: Claim[] = [];
  for (let at = record.size, slot = 0; at + record.size <= table.byteLength; at += record.size, slot++) {
    if (record.fields.check.read(view, at) !== checksum(table.subarray(at, at + record.size))) continue;
    const { offset, length, digest, state } = record.read(view, at);
    const known = CHUNK_STATES[state] ?? "absent";
    if (known !== "absent") claims.push({ offset, length, digest, state: known, slot });
  }
  return claims;
}

/** @throws when the disk is full: then nothing of `data` counts */
function writeWhole(fd: number, data: Uint8Array, at: number): void {
  for (let done = 0; done < data.byteLength; )
    done += writeSync(fd, data, done, data.byteLength - done, at + done);
}
