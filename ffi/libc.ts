/**
 * The part of libc that the data path needs. Everything here is C: descriptors are plain numbers, results are -errno
 * on failure. Nothing here knows about images.
 *
 * @module
 */

import { dlopen, FFIType, type Pointer, ptr, read, toArrayBuffer } from "bun:ffi";

const { i32, u32, i64_fast, u64, ptr: pointer } = FFIType;

const libc = dlopen("libc.so.6", {
  /** int open(const char *path, int flags, mode_t mode) */
  open: { args: [pointer, i32, u32], returns: i32 },
  /** int dup3(int oldfd, int newfd, int flags) */
  dup3: { args: [i32, i32, i32], returns: i32 },
  /** int close(int fd) */
  close: { args: [i32], returns: i32 },
  /** ssize_t read(int fd, void *buf, size_t count) */
  read: { args: [i32, pointer, u64], returns: i64_fast },
  /** ssize_t write(int fd, const void *buf, size_t count) */
  write: { args: [i32, pointer, u64], returns: i64_fast },
  /** ssize_t pread(int fd, void *buf, size_t count, off_t offset) */
  pread: { args: [i32, pointer, u64, FFIType.i64], returns: i64_fast },
  /** int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data) */
  mount: { args: [pointer, pointer, pointer, u64, pointer], returns: i32 },
  /** int umount2(const char *target, int flags) */
  umount2: { args: [pointer, i32], returns: i32 },
  /** int fallocate(int fd, int mode, off_t offset, off_t len) */
  fallocate: { args: [i32, i32, FFIType.i64, FFIType.i64], returns: i32 },
  /** int posix_fadvise(int fd, off_t offset, off_t len, int advice): returns an error number, not -1 */
  posix_fadvise: { args: [i32, FFIType.i64, FFIType.i64, i32], returns: i32 },
  /** int fcntl(int fd, int cmd, ...): an integer as third argument */
  fcntl: { args: [i32, i32, FFIType.i64], returns: i32 },
  /** int flock(int fd, int operation) */
  flock: { args: [i32, i32], returns: i32 },
  /** long syscall(long number, ...): the new mount API has no wrappers in Debian 12's glibc */
  syscall: { args: [i64_fast, u64, u64, u64, u64, u64], returns: i64_fast },
  /** void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset) */
  mmap: { args: [pointer, u64, i32, i32, i32, FFIType.i64], returns: pointer },
  /** int munmap(void *addr, size_t length) */
  munmap: { args: [pointer, u64], returns: i32 },
  /** ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size) */
  lgetxattr: { args: [pointer, pointer, pointer, u64], returns: i64_fast },
  /** ssize_t llistxattr(const char *path, char *list, size_t size) */
  llistxattr: { args: [pointer, pointer, u64], returns: i64_fast },
  /** int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *result) */
  statx: { args: [i32, pointer, i32, u32, pointer], returns: i32 },
  /** int *__errno_location(void): one address a thread */
  __errno_location: { args: [], returns: pointer },
}).symbols;

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENODATA: 61,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
} as const;

const NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/** "EBUSY", or "errno 123". */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

/** The calling thread's errno location does not move, and each worker loads this module for itself. */
const errnoAt = libc.__errno_location() as Pointer;

/** Of the call that failed last on this thread. */
export function lastErrno(): number {
  return read.i32(errnoAt);
}

function checked(result: number): number {
  return result < 0 ? -lastErrno() : result;
}

/** Paths may hold any bytes but NUL; text is encoded as UTF-8. */
export function cString(text: string | Uint8Array): Uint8Array {
  const bytes = typeof text === "string" ? Buffer.from(text, "utf8") : text;
  if (bytes.includes(0)) throw new RangeError(`Cannot pass "${text}" to the kernel: it has a NUL byte`);
  const out = new Uint8Array(bytes.byteLength + 1);
  out.set(bytes);
  return out;
}

export const O = {
  RDONLY: 0,
  RDWR: 2,
  CREAT: 0o100,
  NONBLOCK: 0o4000,
  DIRECT: 0o40000,
  CLOEXEC: 0o2000000,
} as const;

export function open(path: string, flags: number, mode = 0): number {
  return checked(libc.open(cString(path), flags | O.CLOEXEC, mode));
}

export function close(fd: number): number {
  return checked(libc.close(fd));
}

/** From now on nothing is read from this descriptor, and what is written to it is lost; its number stays taken. */
export function disconnect(fd: number): number {
  const nothing = open("/dev/null", O.RDWR);
  if (nothing < 0) return nothing;
  const result = checked(libc.dup3(nothing, fd, O.CLOEXEC));
  close(nothing);
  return result;
}

/** Raw addresses on the hot path: pinning a typed array for each call costs more than the call. */
export function readAt(fd: number, address: number, count: number): number {
  return checked(Number(libc.read(fd, address as Pointer, count)));
}

export function writeAt(fd: number, address: number, count: number): number {
  return checked(Number(libc.write(fd, address as Pointer, count)));
}

export function preadAt(fd: number, address: number, count: number, offset: number): number {
  return checked(Number(libc.pread(fd, address as Pointer, count, offset)));
}

/** The address of a typed array's first byte. Keep the array referenced for as long as the address is used. */
export function addressOf(array: NodeJS.TypedArray): number {
  return ptr(array);
}

export const MS = { RDONLY: 1, NOSUID: 2, NODEV: 4, REMOUNT: 32, BIND: 4096 } as const;
export const MNT = { FORCE: 1, DETACH: 2 } as const;

export function mount(source: string, target: string, type: string, flags: number, data: string): number {
  return checked(libc.mount(cString(source), cString(target), cString(type), flags, cString(data)));
}

export function umount(target: string, flags: number): number {
  return checked(libc.umount2(cString(target), flags));
}

export const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const;

export function flock(fd: number, operation: number): number {
  return checked(libc.flock(fd, operation));
}

const FALLOC_FL = { KEEP_SIZE: 1, PUNCH_HOLE: 2 } as const;

/** Gives the space of whole blocks back; they read as zeros. The file keeps its size. */
export function punchHole(fd: number, offset: number, length: number): number {
  return checked(libc.fallocate(fd, FALLOC_FL.KEEP_SIZE | FALLOC_FL.PUNCH_HOLE, offset, length));
}

const POSIX_FADV_DONTNEED = 4;

/** Takes clean pages of the range out of the page cache, so that the next read sees the disk. */
export function dropPages(fd: number, offset: number, length: number): number {
  return -libc.posix_fadvise(fd, offset, length, POSIX_FADV_DONTNEED);
}

const F = { SETFD: 2, GETFL: 3, SETFL: 4, SETSIG: 10, SETLEASE: 1024 } as const;
const FD_CLOEXEC = 1;

/** Whether a program that this process becomes, or starts, gets the descriptor. */
export function setInheritable(fd: number, inheritable: boolean): number {
  return checked(libc.fcntl(fd, F.SETFD, inheritable ? 0 : FD_CLOEXEC));
}

const F_WRLCK = 1;
const F_UNLCK = 2;
const SIGURG = 23;

/**
 * Whether the file is open anywhere but through this open file description: in another process, or in the kernel, as
 * by a mount that stands on it. A write lease (fcntl(2), "Leases") is granted only to who has the file alone; it is
 * given back at once.
 *
 * @returns undefined where the file system has no leases
 */
export function isOpenElsewhere(fd: number): boolean | undefined {
  // Whoever opens the file meanwhile makes the kernel signal us; SIGURG is ignored unless somebody asks for it.
  checked(libc.fcntl(fd, F.SETSIG, SIGURG));
  const result = checked(libc.fcntl(fd, F.SETLEASE, F_WRLCK));
  if (result < 0) return result === -ERRNO.EAGAIN ? true : undefined;
  checked(libc.fcntl(fd, F.SETLEASE, F_UNLCK));
  return false;
}

/**
 * Reads of the open file description go around the page cache from now on, or through it again. Direct ones must be
 * aligned to blocks, in the file and in memory.
 *
 * @returns whether it is so; some file systems have no direct reads
 */
export function setDirect(fd: number, on: boolean): boolean {
  const flags = checked(libc.fcntl(fd, F.GETFL, 0));
  if (flags < 0) return false;
  return checked(libc.fcntl(fd, F.SETFL, on ? flags | O.DIRECT : flags & ~O.DIRECT)) === 0;
}

function syscall(number: number, ...args: (number | Uint8Array)[]): number {
  const [a = 0, b = 0, c = 0, d = 0, e = 0] = args.map((arg) => (typeof arg === "number" ? arg : ptr(arg)));
  // A negative int (AT_FDCWD) must reach the kernel sign-extended.
  const word = (value: number): bigint => BigInt.asUintN(64, BigInt(value));
  return checked(Number(libc.syscall(number, word(a), word(b), word(c), word(d), word(e))));
}

/** fsopen(2) and its kin have the same numbers on x86-64 and arm64. */
const SYS = {
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  pidfd_open: 434,
  pidfd_getfd: 438,
  mount_setattr: 442,
} as const;
const FSCONFIG = { SET_STRING: 1, CMD_CREATE: 6 } as const;
const AT_FDCWD = -100;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const CLOEXEC = 1;
const OPEN_TREE_CLONE = 1;
/** O_CLOEXEC. */
const OPEN_TREE_CLOEXEC = 0o2000000;
const AT_EMPTY_PATH = 0x1000;
const MOUNT_ATTR_IDMAP = 0x100000n;

export const MOUNT_ATTR = { RDONLY: 1, NOSUID: 2, NODEV: 4 } as const;

/** int fsopen(const char *type, unsigned int flags) */
export function fsopen(type: string): number {
  return syscall(SYS.fsopen, cString(type), CLOEXEC);
}

/** int fsconfig(int fd, unsigned int cmd, const char *key, const void *value, int aux) */
export function fsconfigString(fd: number, key: string, value: string): number {
  return syscall(SYS.fsconfig, fd, FSCONFIG.SET_STRING, cString(key), cString(value), 0);
}

export function fsconfigCreate(fd: number): number {
  return syscall(SYS.fsconfig, fd, FSCONFIG.CMD_CREATE, 0, 0, 0);
}

/** int fsmount(int fd, unsigned int flags, unsigned int attributes) */
export function fsmount(fd: number, attributes: number): number {
  return syscall(SYS.fsmount, fd, CLOEXEC, attributes);
}

/** int move_mount(int from, const char *from_path, int to, const char *to_path, unsigned int flags) */
export function moveMount(fd: number, target: string): number {
  return syscall(SYS.move_mount, fd, cString(""), AT_FDCWD, cString(target), MOVE_MOUNT_F_EMPTY_PATH);
}

/** int open_tree(int dirfd, const char *path, unsigned int flags): a copy of the mount at a path, not attached yet */
export function openTree(path: string): number {
  return syscall(SYS.open_tree, AT_FDCWD, cString(path), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/** int mount_setattr(int fd, const char *path, unsigned int flags, struct mount_attr *attr, size_t size) */
export function mapIds(fd: number, userNamespace: number): number {
  // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
  const attributes = new BigUint64Array([MOUNT_ATTR_IDMAP, 0n, 0n, BigInt(userNamespace)]);
  const bytes = new Uint8Array(attributes.buffer);
  return syscall(SYS.mount_setattr, fd, cString(""), AT_EMPTY_PATH, bytes, bytes.byteLength);
}

/** int pidfd_open(pid_t pid, unsigned int flags) */
export function pidfdOpen(pid: number): number {
  return syscall(SYS.pidfd_open, pid, 0);
}

/** int pidfd_getfd(int pidfd, int targetfd, unsigned int flags): another process's descriptor, shared with it */
export function pidfdGetfd(pidfd: number, target: number): number {
  return syscall(SYS.pidfd_getfd, pidfd, target, 0);
}

/** What the kernel says about a failed fsconfig: messages read from the context, one a call. */
export function fsMessages(fd: number): string[] {
  const buffer = new Uint8Array(1024);
  const messages: string[] = [];
  for (;;) {
    const n = readAt(fd, addressOf(buffer), buffer.byteLength);
    if (n <= 0) return messages;
    messages.push(Buffer.from(buffer.subarray(0, n)).toString("utf8").trim());
  }
}

const PROT_READ = 1;
const MAP_SHARED = 1;

export interface MappedFile {
  readonly bytes: Uint8Array;
  /** No view of the bytes may be touched any more: that would end the process. */
  unmap(): void;
}

/** A file mapped read-only. Nothing but `unmap` lets go of it: views may be anywhere. */
export function mapFile(fd: number, size: number): MappedFile {
  const address = libc.mmap(null, size, PROT_READ, MAP_SHARED, fd, 0);
  if (address === null || Number(address) === -1) throw new Error(`mmap: ${errnoName(read.i32(errnoAt))}`);
  const bytes = new Uint8Array(toArrayBuffer(address as Pointer, 0, size));
  return { bytes, unmap: () => void libc.munmap(address, size) };
}

/** Extended attributes of the path itself (links are not followed); undefined where the file system has none. */
export function listXattrs(path: Uint8Array): string[] | undefined {
  const name = cString(path);
  const buffer = new Uint8Array(65536);
  const size = checked(Number(libc.llistxattr(name, buffer, buffer.byteLength)));
  if (size === -ERRNO.EOPNOTSUPP) return undefined;
  if (size < 0) throw new Error(`llistxattr: ${errnoName(-size)}`);
  return Buffer.from(buffer.subarray(0, size))
    .toString("latin1")
    .split("\0")
    .filter((key) => key !== "");
}

export function getXattr(path: Uint8Array, key: string): Uint8Array | undefined {
  const buffer = new Uint8Array(65536);
  const name = cString(Buffer.from(key, "latin1"));
  const size = checked(Number(libc.lgetxattr(cString(path), name, buffer, buffer.byteLength)));
  if (size === -ERRNO.ENODATA) return undefined;
  if (size < 0) throw new Error(`lgetxattr: ${errnoName(-size)}`);
  return buffer.slice(0, size);
}

const STATX = { SIZE: 256, MASK: 0, MOUNT_ID: 144, MNT_ID_UNIQUE: 0x4000 } as const;
const AT = { SYMLINK_NOFOLLOW: 0x100, NO_AUTOMOUNT: 0x800, STATX_DONT_SYNC: 0x4000 } as const;

/**
 * The number of the mount at a path, which no other mount ever had or will have. The file system is not asked anything:
 * it may be one that nobody serves.
 *
 * @returns undefined where the kernel has no such numbers (before Linux 6.8), or the path does not exist
 */
export function uniqueMountId(path: string): number | undefined {
  const result = new DataView(new ArrayBuffer(STATX.SIZE));
  const flags = AT.SYMLINK_NOFOLLOW | AT.NO_AUTOMOUNT | AT.STATX_DONT_SYNC;
  if (libc.statx(AT_FDCWD, cString(path), flags, STATX.MNT_ID_UNIQUE, ptr(result)) < 0) return undefined;
  if ((result.getUint32(STATX.MASK, true) & STATX.MNT_ID_UNIQUE) === 0) return undefined;
  return Number(result.getBigUint64(STATX.MOUNT_ID, true));
}
