/**
 * Calls that make files of every kind, relative to an open directory: names are bytes, links are never followed, and
 * times have nanoseconds. Results are 0 (or a descriptor), or -errno.
 *
 * @module
 */
import { dlopen, FFIType, type Pointer, read } from "bun:ffi";
import { cString, O } from "./libc.ts";

const { i32, u32, u64, ptr: pointer } = FFIType;

const libc = dlopen("libc.so.6", {
  /** int openat(int dirfd, const char *path, int flags, mode_t mode) */
  openat: { args: [i32, pointer, i32, u32], returns: i32 },
  /** int mkdirat(int dirfd, const char *path, mode_t mode) */
  mkdirat: { args: [i32, pointer, u32], returns: i32 },
  /** int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev) */
  mknodat: { args: [i32, pointer, u32, u64], returns: i32 },
  /** int symlinkat(const char *target, int dirfd, const char *path) */
  symlinkat: { args: [pointer, i32, pointer], returns: i32 },
  /** int linkat(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, int flags) */
  linkat: { args: [i32, pointer, i32, pointer, i32], returns: i32 },
  /** int fchownat(int dirfd, const char *path, uid_t owner, gid_t group, int flags) */
  fchownat: { args: [i32, pointer, u32, u32, i32], returns: i32 },
  /** int fchmodat(int dirfd, const char *path, mode_t mode, int flags) */
  fchmodat: { args: [i32, pointer, u32, i32], returns: i32 },
  /** int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags) */
  utimensat: { args: [i32, pointer, pointer, i32], returns: i32 },
  /** int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags) */
  lsetxattr: { args: [pointer, pointer, pointer, u64, i32], returns: i32 },
  /** int *__errno_location(void): one address a thread */
  __errno_location: { args: [], returns: pointer },
}).symbols;

const errnoAt = libc.__errno_location() as Pointer;

function checked(result: number): number {
  return result < 0 ? -read.i32(errnoAt) : result;
}

const AT_SYMLINK_NOFOLLOW = 0x100;
const O_CREAT_NEW = O.CREAT | 0o200; // with O_EXCL
const O_WRONLY = 1;
const O_NOFOLLOW = 0o400000;
const O_DIRECTORY = 0o200000;

/** File types in a mode, of stat(2). */
export const S_IF = { fifo: 0o010000, char: 0o020000, block: 0o060000, socket: 0o140000 } as const;

/** A new, empty file, open for writing. It must not exist. */
export function createAt(directory: number, name: Uint8Array): number {
  const flags = O_WRONLY | O_CREAT_NEW | O_NOFOLLOW | O.CLOEXEC;
  return checked(libc.openat(directory, cString(name), flags, 0o600));
}

export function openDirectoryAt(directory: number, name: Uint8Array): number {
  const flags = O.RDONLY | O_DIRECTORY | O_NOFOLLOW | O.CLOEXEC;
  return checked(libc.openat(directory, cString(name), flags, 0));
}

/** A new directory that only its owner may enter. */
export function mkdirAt(directory: number, name: Uint8Array): number {
  return checked(libc.mkdirat(directory, cString(name), 0o700));
}

/** @param type of `S_IF` */
export function mknodAt(
  directory: number,
  name: Uint8Array,
  type: number,
  device: { readonly major: number; readonly minor: number },
): number {
  return checked(libc.mknodat(directory, cString(name), type | 0o600, deviceNumber(device)));
}

/** glibc's `gnu_dev_makedev`. */
function deviceNumber({ major, minor }: { readonly major: number; readonly minor: number }): bigint {
  const [a, b] = [BigInt(major), BigInt(minor)];
  return ((a & 0xffff_f000n) << 32n) | ((a & 0xfffn) << 8n) | ((b & 0xffff_ff00n) << 12n) | (b & 0xffn);
}

export function symlinkAt(directory: number, name: Uint8Array, target: Uint8Array): number {
  return checked(libc.symlinkat(cString(target), directory, cString(name)));
}

/** One more name for the file at `path` below `from`. */
export function linkAt(from: number, path: Uint8Array, directory: number, name: Uint8Array): number {
  return checked(libc.linkat(from, cString(path), directory, cString(name), 0));
}

/** Of a link itself. */
export function chownAt(directory: number, name: Uint8Array, uid: number, gid: number): number {
  return checked(libc.fchownat(directory, cString(name), uid, gid, AT_SYMLINK_NOFOLLOW));
}

/** Not for symbolic links, which have no mode. */
export function chmodAt(directory: number, name: Uint8Array, mode: number): number {
  return checked(libc.fchmodat(directory, cString(name), mode, 0));
}

/** Access and modification time, both. */
export function setTimeAt(directory: number, name: Uint8Array, seconds: number, nanoseconds: number): number {
  const second = BigInt(seconds);
  const fraction = BigInt(nanoseconds);
  const times = new BigInt64Array([second, fraction, second, fraction]);
  return checked(libc.utimensat(directory, cString(name), times, AT_SYMLINK_NOFOLLOW));
}

/** By path, as the kernel has no form of it with a directory: use "/proc/self/fd/N/name". */
export function setXattr(path: Uint8Array, key: Uint8Array, value: Uint8Array): number {
  // An empty array has no address.
  const room = value.byteLength === 0 ? new Uint8Array(1) : value;
  return checked(libc.lsetxattr(cString(path), cString(key), room, BigInt(value.byteLength), 0));
}
