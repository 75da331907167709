/**
 * A root file system as the entries of one layer: what `tar` would put into an archive, in byte order of names.
 *
 * Names are bytes, links are not followed, and every path is taken from the open directory it lies in, so that nothing
 * outside is read if somebody swaps a directory for a link meanwhile. Sockets are left out, as in any tar.
 *
 * @module
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from "node:fs";
import { setImmediate } from "node:timers/promises";
import { getXattr, listXattrs } from "../../ffi/libc.ts";
import { type ByteString, byteString, byteStringOf, bytesOf, printable } from "../base/byte-string.ts";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import type { TarEntry, TarKind } from "./entry.ts";

/** Bytes read at a time. */
const PIECE = 2 ** 20;
/** Entries between two chances for timers and signals. */
const BREATH = 64;

const DIRECTORY_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** O_NONBLOCK: a FIFO that took the file's place must not hold us up. */
const FILE_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Of the machine, not of the image: labels of its policy, and marks of its overlay mounts. */
const FOREIGN_XATTRS = /^(?:security\.selinux$|trusted\.overlay\.)/;

/** @throws not_found, denied, corrupt when a file changes while it is read */
export async function* readDirectory(
  root: string,
  options: { readonly signal?: AbortSignal } = {},
): AsyncGenerator<TarEntry> {
  let fd: number;
  try {
    fd = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    const state = toNydusError(error, `read directory "${root}"`);
    throw (error as { code?: unknown }).code === "ENOTDIR"
      ? new NydusError("usage", `Cannot read directory "${root}": it is not a directory`)
      : state;
  }
  const walk = new Walk(root, options.signal);
  try {
    yield* walk.directory(fd, byteStringOf(""), fstatSync(fd, { bigint: true }));
  } finally {
    closeSync(fd);
  }
}

class Walk {
  readonly #root: string;
  readonly #signal: AbortSignal | undefined;
  /** First path of each inode with several names. */
  readonly #links = new Map<string, ByteString>();
  #count = 0;

  constructor(root: string, signal: AbortSignal | undefined) {
    this.#root = root;
    this.#signal = signal;
  }

  async *directory(fd: number, path: ByteString, stat: BigIntStats): AsyncGenerator<TarEntry> {
    const here = Buffer.from(`/proc/self/fd/${fd}`);
    // With the dot it is the directory and not procfs's link to it.
    const self = Buffer.concat([here, Buffer.from("/.")]);
    yield this.#entry("directory", path === "" ? byteStringOf("./") : path, stat, self);
    const names = this.#try(path, () => readdirSync(here, { encoding: "buffer" }));
    for (const name of names.map((bytes) => byteString(bytes)).sort()) {
      if (++this.#count % BREATH === 0) await setImmediate();
      this.#signal?.throwIfAborted();
      const place = Buffer.concat([here, Buffer.from("/"), bytesOf(name)]);
      const full = (path === "" ? name : `${path}/${name}`) as ByteString;
      yield* this.#node(place, full);
    }
  }

  async *#node(place: Buffer, path: ByteString): AsyncGenerator<TarEntry> {
    const stat = this.#try(path, () => lstatSync(place, { bigint: true }));
    if (stat.isSocket()) return;
    if (stat.isDirectory()) {
      const fd = this.#try(path, () => openSync(place, DIRECTORY_FLAGS));
      try {
        yield* this.directory(fd, path, stat);
      } finally {
        closeSync(fd);
      }
      return;
    }
    const known = this.#linked(stat, path);
    if (known !== undefined) yield { ...this.#entry("hardlink", path, stat, place), linkTarget: known };
    else if (stat.isFile()) yield* this.#file(place, path, stat);
    else yield this.#entry(kindOf(stat), path, stat, place);
  }

  async *#file(place: Buffer, path: ByteString, stat: BigIntStats): AsyncGenerator<TarEntry> {
    const fd = this.#try(path, () => openSync(place, FILE_FLAGS));
    try {
      const opened = fstatSync(fd, { bigint: true });
      if (opened.ino !== stat.ino || opened.dev !== stat.dev || !opened.isFile()) throw this.#changed(path);
      const entry = this.#entry("file", path, opened, place);
      yield { ...entry, body: this.#body(fd, path, entry.size) };
    } finally {
      closeSync(fd);
    }
  }

  /** Exactly as many bytes as the entry says. */
  async *#body(fd: number, path: ByteString, size: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < size; ) {
      const piece = new Uint8Array(Math.min(PIECE, size - at));
      const count = this.#try(path, () => readSync(fd, piece, 0, piece.byteLength, at));
      if (count === 0) throw this.#changed(path);
      yield piece.subarray(0, count);
      at += count;
    }
  }

  #linked(stat: BigIntStats, path: ByteString): ByteString | undefined {
    if (stat.nlink < 2n) return undefined;
    const inode = `${stat.dev}:${stat.ino}`;
    const known = this.#links.get(inode);
    if (known === undefined) this.#links.set(inode, path);
    return known;
  }

  #entry(kind: TarKind, path: ByteString, stat: BigIntStats, place: Buffer): TarEntry {
    const ns = ((stat.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
    const device = kind === "char" || kind === "block";
    return {
      kind,
      path,
      linkTarget: kind === "symlink" ? this.#target(place, path) : byteStringOf(""),
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtime: Number((stat.mtimeNs - ns) / 1_000_000_000n),
      mtimeNs: Number(ns),
      xattrs: this.#try(path, () => xattrsOf(place)),
      ...(device ? deviceOf(stat.rdev) : { major: 0, minor: 0 }),
      size: kind === "file" ? Number(stat.size) : 0,
      offset: 0,
      dataOffset: 0,
      body: nothing(),
    };
  }

  #target(place: Buffer, path: ByteString): ByteString {
    return byteString(this.#try(path, () => readlinkSync(place, { encoding: "buffer" })));
  }

  #changed(path: ByteString): NydusError {
    return corrupt(`Cannot read "${this.#shown(path)}": it changed meanwhile`);
  }

  #try<T>(path: ByteString, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw toNydusError(error, `read "${this.#shown(path)}"`);
    }
  }

  #shown(path: ByteString): string {
    return path === "" ? this.#root : `${this.#root.replace(/\/$/, "")}/${printable(path)}`;
  }
}

function kindOf(stat: BigIntStats): TarKind {
  if (stat.isSymbolicLink()) return "symlink";
  if (stat.isCharacterDevice()) return "char";
  return stat.isBlockDevice() ? "block" : "fifo";
}

/** glibc's `gnu_dev_major` and `gnu_dev_minor`: what stat(2) shows, wider than what the kernel stores. */
function deviceOf(rdev: bigint): { major: number; minor: number } {
  return {
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xffff_f000n)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffff_ff00n)),
  };
}

function xattrsOf(place: Buffer): ReadonlyMap<ByteString, Uint8Array> {
  const found = new Map<ByteString, Uint8Array>();
  for (const key of (listXattrs(place) ?? []) as ByteString[]) {
    if (FOREIGN_XATTRS.test(key)) continue;
    const value = getXattr(place, key);
    if (value !== undefined) found.set(key, value);
  }
  return found;
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
