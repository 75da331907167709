/**
 * The inode record of v5. Behind it, each padded to 8 bytes: name, link target (symlinks only), xattrs (if its flag is
 * set), and of regular files one chunk record a chunk.
 *
 * @module
 */
import { bytes, struct, u16, u32, u64 } from "../../base/struct.ts";
import { seconds } from "../inode.ts";

/** `RafsV5Inode` of the reference. */
export const inodeRecord = struct(128, {
  /** Of the content: chunk digests, link target, digests of the children. Metadata is not covered. */
  digest: bytes(0, 32),
  /** Inode number of the directory; 0 for the root. */
  parent: u64(32),
  /** Position in the inode table, from 1; of a hard link's other names that of the first. */
  ino: u64(40),
  uid: u32(48),
  gid: u32(52),
  projectId: u32(56),
  mode: u32(60),
  size: u64(64),
  /** 512-byte units. */
  blocks: u64(72),
  flags: u64(80),
  nlink: u32(88),
  /** Directories: number of the first child; the others' follow it, in the byte order of their names. */
  childIndex: u32(92),
  /** Directories: children. Regular files: chunks. */
  childCount: u32(96),
  nameSize: u16(100),
  targetSize: u16(102),
  rdev: u32(104),
  mtimeNs: u32(108),
  mtime: seconds(112),
});

export const INODE_FLAGS = { symlink: 1, hardlink: 2, hasXattr: 4, hasHole: 8 } as const;

/** Linux NAME_MAX. */
export const MAX_NAME = 255;
export const ROOT_INO = 1;
/** What the root's record is called. */
export const ROOT_NAME = "/";
