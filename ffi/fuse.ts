/**
 * The FUSE wire protocol, Linux `include/uapi/linux/fuse.h`, version 7.41: the requests and replies that a read-only
 * file system meets. Offsets are those of the C structs; requests and replies are little endian on every machine we
 * run on.
 *
 * @module
 */

export const FUSE_MAJOR = 7;
export const FUSE_MINOR = 41;
export const ROOT_NODE = 1;

export const OP = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  READLINK: 5,
  OPEN: 14,
  READ: 15,
  STATFS: 17,
  RELEASE: 18,
  GETXATTR: 22,
  LISTXATTR: 23,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
  READDIRPLUS: 44,
} as const;

/** `struct fuse_in_header`, 40 bytes; the operation's own struct follows. */
export const IN = { SIZE: 40, OPCODE: 4, UNIQUE: 8, NODE: 16 } as const;
/** `struct fuse_out_header`, 16 bytes. `error` is 0 or -errno. */
export const OUT = { SIZE: 16, LENGTH: 0, ERROR: 4, UNIQUE: 8 } as const;
/** `struct fuse_init_in` */
export const INIT_IN = { MAX_READAHEAD: 8, FLAGS: 12, FLAGS2: 16 } as const;
/** `struct fuse_init_out`, 64 bytes. */
export const INIT_OUT = {
  SIZE: 64,
  MAJOR: 0,
  MINOR: 4,
  MAX_READAHEAD: 8,
  FLAGS: 12,
  MAX_BACKGROUND: 16,
  CONGESTION: 18,
  MAX_WRITE: 20,
  TIME_GRAN: 24,
  MAX_PAGES: 28,
  FLAGS2: 32,
} as const;

/** Bits of `flags`. */
export const INIT_FLAG = {
  ASYNC_READ: 1 << 0,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  PARALLEL_DIROPS: 1 << 18,
  NO_OPEN_SUPPORT: 1 << 17,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  INIT_EXT: 1 << 30,
} as const;
/** Bits of `flags2` (bit 32 and up of the whole). */
export const INIT_FLAG2 = { HAS_RESEND: 1 << 7 } as const;

/** `struct fuse_attr`, 88 bytes. */
export const ATTR = {
  SIZE: 88,
  INO: 0,
  LENGTH: 8,
  BLOCKS: 16,
  ATIME: 24,
  MTIME: 32,
  CTIME: 40,
  ATIME_NS: 48,
  MTIME_NS: 52,
  CTIME_NS: 56,
  MODE: 60,
  NLINK: 64,
  UID: 68,
  GID: 72,
  RDEV: 76,
  BLKSIZE: 80,
} as const;
/** `struct fuse_entry_out`, 128 bytes. */
export const ENTRY_OUT = { SIZE: 128, NODE: 0, ENTRY_VALID: 16, ATTR_VALID: 24, ATTR: 40 } as const;
/** `struct fuse_attr_out`, 104 bytes. */
export const ATTR_OUT = { SIZE: 104, ATTR_VALID: 0, ATTR: 16 } as const;
/** `struct fuse_read_in`, also for READDIR; OFFSET is from the start of the struct. */
export const READ_IN = { OFFSET: 8, SIZE: 16 } as const;
/** `struct fuse_getxattr_in`, 8 bytes, the name follows; `struct fuse_getxattr_out`, 8 bytes. */
export const XATTR = { IN_SIZE: 8, OUT_SIZE: 8 } as const;
/** `struct fuse_dirent`: the name follows, padded to 8. READDIRPLUS puts a `fuse_entry_out` in front. */
export const DIRENT = { SIZE: 24, INO: 0, OFFSET: 8, NAME_LENGTH: 16, TYPE: 20 } as const;
/** `struct fuse_statfs_out` */
export const STATFS_OUT = { SIZE: 80, BLOCKS: 0, BSIZE: 40, NAMELEN: 44, FRSIZE: 48 } as const;

/** Notification: the kernel queues again all requests that were read but not answered. */
export const NOTIFY_RESEND = 7;

/** Larger than any reply of ours; the kernel caps reads at fs.fuse.max_pages_limit (256 pages by default). */
export const MAX_READ = 1 << 20;
/** A request of ours is small (no writes), but the kernel refuses buffers under 8 KiB. */
export const REQUEST_BUFFER = 64 * 1024;
