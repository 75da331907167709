/**
 * One thread's end of a FUSE connection: a buffer for the request read last and one for its reply. Nothing here
 * allocates per request.
 *
 * @module
 */
import {
  FUSE_MAJOR,
  FUSE_MINOR,
  IN,
  INIT_FLAG,
  INIT_FLAG2,
  INIT_IN,
  INIT_OUT,
  MAX_READ,
  OUT,
  REQUEST_BUFFER,
  STATFS_OUT,
} from "../../ffi/fuse.ts";
import { addressOf, ERRNO, preadAt, readAt, writeAt } from "../../ffi/libc.ts";
import { alignUp } from "../base/math.ts";

/** Of devices and pages, in bytes. */
const BLOCK = 4096;

/** Kernel's default is 12 background requests (read-ahead); more keeps both workers and the network busy. */
const MAX_BACKGROUND = 64;

/** Data behind the header starts on a block, as direct reads want it. */
function replyBuffer(): Uint8Array {
  const room = new Uint8Array(OUT.SIZE + MAX_READ + BLOCK);
  const start = addressOf(room) + OUT.SIZE;
  const skipped = alignUp(start, BLOCK) - start;
  return room.subarray(skipped, skipped + OUT.SIZE + MAX_READ);
}

export class FuseChannel {
  /** May be another one when its file system has gone. */
  fd: number;
  readonly request = new Uint8Array(REQUEST_BUFFER);
  readonly reply = replyBuffer();
  readonly #in = new DataView(this.request.buffer);
  readonly #out = new DataView(this.reply.buffer, this.reply.byteOffset);
  readonly #requestAddress = addressOf(this.request);
  readonly #replyAddress = addressOf(this.reply);

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Blocks for the next request. @returns its length, or -errno; -ENODEV when the file system is gone */
  receive(): number {
    for (;;) {
      const count = readAt(this.fd, this.#requestAddress, REQUEST_BUFFER);
      // ENOENT: the request was interrupted before it could be read.
      if (count !== -ERRNO.EINTR && count !== -ERRNO.EAGAIN && count !== -ERRNO.ENOENT) return count;
    }
  }

  get opcode(): number {
    return this.#in.getUint32(IN.OPCODE, true);
  }

  /** Node ids are ours, and small. */
  get node(): number {
    return this.u64(IN.NODE - IN.SIZE);
  }

  get uniqueLow(): number {
    return this.#in.getUint32(IN.UNIQUE, true);
  }

  get uniqueHigh(): number {
    return this.#in.getUint32(IN.UNIQUE + 4, true);
  }

  /** A field of the operation's own struct. */
  u32(offset: number): number {
    return this.#in.getUint32(IN.SIZE + offset, true);
  }

  u64(offset: number): number {
    return this.#in.getUint32(IN.SIZE + offset + 4, true) * 0x1_0000_0000 + this.u32(offset);
  }

  /** The NUL-terminated name at an offset of the operation's struct, as a view. */
  name(offset: number, length: number): Uint8Array {
    const start = IN.SIZE + offset;
    const end = this.request.indexOf(0, start);
    return this.request.subarray(start, end < 0 || end > length ? length : end);
  }

  // The reply's own struct: clear it, fill it, send it.

  clear(size: number): void {
    this.reply.fill(0, OUT.SIZE, OUT.SIZE + size);
  }

  put16(offset: number, value: number): void {
    this.#out.setUint16(OUT.SIZE + offset, value, true);
  }

  put32(offset: number, value: number): void {
    this.#out.setUint32(OUT.SIZE + offset, value, true);
  }

  /** Negative values (times before 1970) are stored as two's complement. */
  put64(offset: number, value: number): void {
    this.#out.setUint32(OUT.SIZE + offset, value >>> 0 === value ? value : value % 0x1_0000_0000, true);
    this.#out.setInt32(OUT.SIZE + offset + 4, Math.floor(value / 0x1_0000_0000), true);
  }

  putBytes(offset: number, bytes: Uint8Array): void {
    this.reply.set(bytes, OUT.SIZE + offset);
  }

  /** Reads file data into the reply: whole blocks, for direct reads. @returns bytes read, or -errno */
  pread(fd: number, at: number, count: number, offset: number): number {
    return Math.min(count, preadAt(fd, this.#replyAddress + OUT.SIZE + at, alignUp(count, BLOCK), offset));
  }

  send(size: number): void {
    this.#finish(0, size);
  }

  /** @param errno positive, or 0 for an empty success */
  sendError(errno: number): void {
    this.#finish(-errno, 0);
  }

  #finish(error: number, size: number): void {
    this.#out.setUint32(OUT.LENGTH, OUT.SIZE + size, true);
    this.#out.setInt32(OUT.ERROR, error, true);
    this.#out.setUint32(OUT.UNIQUE, this.uniqueLow, true);
    this.#out.setUint32(OUT.UNIQUE + 4, this.uniqueHigh, true);
    // ENOENT: the request was interrupted or the mount is gone; there is nobody to tell.
    writeAt(this.fd, this.#replyAddress, OUT.SIZE + size);
  }

  /** @param blocks of 4096 bytes that the file system holds */
  answerStatfs(blocks: number): void {
    this.clear(STATFS_OUT.SIZE);
    this.put64(STATFS_OUT.BLOCKS, blocks);
    this.put32(STATFS_OUT.BSIZE, 4096);
    this.put32(STATFS_OUT.FRSIZE, 4096);
    this.put32(STATFS_OUT.NAMELEN, 255);
    this.send(STATFS_OUT.SIZE);
  }

  /** The handshake, the same for every file system here: large reads, and no request for what never changes. */
  answerInit(): void {
    const flags = this.u32(INIT_IN.FLAGS);
    const wanted =
      INIT_FLAG.ASYNC_READ |
      INIT_FLAG.DO_READDIRPLUS |
      INIT_FLAG.PARALLEL_DIROPS |
      INIT_FLAG.NO_OPEN_SUPPORT |
      INIT_FLAG.NO_OPENDIR_SUPPORT |
      INIT_FLAG.MAX_PAGES |
      INIT_FLAG.CACHE_SYMLINKS |
      INIT_FLAG.INIT_EXT;
    const flags2 = (flags & INIT_FLAG.INIT_EXT) !== 0 ? this.u32(INIT_IN.FLAGS2) & INIT_FLAG2.HAS_RESEND : 0;
    this.clear(INIT_OUT.SIZE);
    this.put32(INIT_OUT.MAJOR, FUSE_MAJOR);
    this.put32(INIT_OUT.MINOR, FUSE_MINOR);
    this.put32(INIT_OUT.MAX_READAHEAD, MAX_READ);
    this.put32(INIT_OUT.FLAGS, (flags & wanted) >>> 0);
    this.put16(INIT_OUT.MAX_BACKGROUND, MAX_BACKGROUND);
    this.put16(INIT_OUT.CONGESTION, MAX_BACKGROUND - MAX_BACKGROUND / 4);
    this.put32(INIT_OUT.MAX_WRITE, 4096);
    this.put32(INIT_OUT.TIME_GRAN, 1);
    this.put16(INIT_OUT.MAX_PAGES, MAX_READ / 4096);
    this.put32(INIT_OUT.FLAGS2, flags2);
    this.send(INIT_OUT.SIZE);
  }
}

/** A reply made outside a worker's loop: `data` lies behind room for the header. */
export class DelayedReply {
  readonly #buffer: Uint8Array;
  readonly #view: DataView;

  /** @param room for the header and `size` bytes; everything that is sent of it must be filled */
  constructor(uniqueLow: number, uniqueHigh: number, size: number, room = new Uint8Array(OUT.SIZE + size)) {
    this.#buffer = room.subarray(0, OUT.SIZE + size);
    this.#view = new DataView(room.buffer, room.byteOffset);
    this.#view.setUint32(OUT.UNIQUE, uniqueLow, true);
    this.#view.setUint32(OUT.UNIQUE + 4, uniqueHigh, true);
  }

  get data(): Uint8Array {
    return this.#buffer.subarray(OUT.SIZE);
  }

  send(fd: number): void {
    this.#write(fd, 0, this.#buffer.byteLength);
  }

  sendError(fd: number, errno: number): void {
    this.#write(fd, -errno, OUT.SIZE);
  }

  #write(fd: number, error: number, length: number): void {
    this.#view.setUint32(OUT.LENGTH, length, true);
    this.#view.setInt32(OUT.ERROR, error, true);
    writeAt(fd, addressOf(this.#buffer), length);
  }
}
