/**
 * The list of chunks that a cache file holds, on disk: an append-only log beside the data. A torn or damaged record
 * ends the list; what it would have claimed is fetched again.
 *
 * What a claim is worth depends on what happened since. The header names the boot and the data file's inode: if both
 * are still the same, data written before its claim is in the page cache or on disk, whoever was killed meanwhile. If
 * not (power cut, copied directory), data may be missing where a claim is present, so its claims become suspect.
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
import { bytes, struct, u32, u64, viewOf } from "../base/struct.ts";

const MAGIC = 0x474f_4c43;
const VERSION = 1;

const header = struct(64, {
  magic: u32(0),
  version: u32(4),
  digester: u32(8),
  bootId: bytes(16, 16),
  inode: u64(32),
});

/** `suspect`: written before an unclean stop; the data must pass its digest before it is used. */
const record = struct(56, {
  offset: u64(0),
  length: u32(8),
  check: u32(12),
  digest: bytes(16, 32),
  suspect: u32(48),
});

export interface Claim {
  /** Uncompressed offset in the blob, and length. */
  readonly offset: number;
  readonly length: number;
  readonly digest: Uint8Array;
  readonly suspect: boolean;
}

function bootId(): Uint8Array {
  const text = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").replaceAll(/[^0-9a-f]/g, "");
  return Buffer.from(text, "hex").subarray(0, 16);
}

/** Over the record with its check field zero; catches torn appends and bit rot. */
function checksum(bytesOfRecord: Uint8Array): number {
  const copy = Uint8Array.from(bytesOfRecord);
  copy.fill(0, 12, 16);
  return Bun.hash.crc32(copy);
}

export class ClaimLog implements Disposable {
  readonly #fd: number;

  private constructor(path: string) {
    this.#fd = openSync(path, "a", 0o600);
  }

  /** Opens or starts the log of the data file `dataFd`. A log of another version or digester is started over. */
  static open(
    path: string,
    dataFd: number,
    digester: ChunkDigester,
  ): { log: ClaimLog; claims: readonly Claim[] } {
    const current = header.encode({
      magic: MAGIC,
      version: VERSION,
      digester: CHUNK_DIGESTERS[digester],
      bootId: bootId(),
      inode: fstatSync(dataFd).ino,
    });
    const found = existsSync(path) ? readFileSync(path) : new Uint8Array();
    const same =
      found.byteLength >= header.size && Buffer.compare(found.subarray(0, header.size), current) === 0;
    const { claims, end } = readRecords(found, digester);
    const kept = same ? claims : claims.map((claim) => ({ ...claim, suspect: true }));
    // A torn tail would hide everything appended behind it, so the log is written anew.
    if (!same || end !== found.byteLength) rewrite(path, current, kept);
    return { log: new ClaimLog(path), claims: kept };
  }

  /** The caller has written the chunks' data before. One write: O_APPEND keeps records whole and in order. */
  append(claims: readonly Claim[]): void {
    if (claims.length > 0) writeSync(this.#fd, Buffer.concat(claims.map(encode)));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

function rewrite(path: string, head: Uint8Array, claims: readonly Claim[]): void {
  writeFileSync(`${path}.new`, Buffer.concat([head, ...claims.map(encode)]), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function encode(claim: Claim): Uint8Array {
  const out = record.encode({ ...claim, suspect: claim.suspect ? 1 : 0 });
  record.fields.check.write(viewOf(out), 0, checksum(out));
  return out;
}

function readRecords(log: Uint8Array, digester: ChunkDigester): { claims: Claim[]; end: number } {
  const claims: Claim[] = [];
  if (log.byteLength < header.size) return { claims, end: 0 };
  const view = viewOf(log);
  const was = header.read(view);
  if (was.magic !== MAGIC || was.version !== VERSION || was.digester !== CHUNK_DIGESTERS[digester])
    return { claims, end: 0 };
  let at = header.size;
  for (; at + record.size <= log.byteLength; at += record.size) {
    if (record.fields.check.read(view, at) !== checksum(log.subarray(at, at + record.size))) break;
    const { offset, length, digest, suspect } = record.read(view, at);
    claims.push({ offset, length, digest, suspect: suspect !== 0 });
  }
  return { claims, end: at };
}
