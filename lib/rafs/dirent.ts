/**
 * Directory blocks: entries first, then the names back to back, then zeros. Nothing crosses a block.
 *
 * @module
 */
import { struct, u8, u16, u64 } from "../base/struct.ts";
import type { Kind } from "./inode.ts";

/** Linux `struct erofs_dirent`. */
export const dirent = struct(12, {
  nid: u64(0),
  /** From the start of the block. */
  nameOffset: u16(8),
  type: u8(10),
});

export const MAX_NAME = 255;

/** Linux `EROFS_FT_*`. */
export const ENTRY_TYPES: Readonly<Record<Kind, number>> = {
  file: 1,
  directory: 2,
  char: 3,
  block: 4,
  fifo: 5,
  socket: 6,
  symlink: 7,
};
