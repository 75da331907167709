/**
 * What a tar archive holds.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";

export type TarKind = "file" | "hardlink" | "symlink" | "char" | "block" | "directory" | "fifo";

export interface TarHeader {
  readonly kind: TarKind;
  /** As it stands in the archive: it may begin with "./" or "/", end with "/" and contain "..". */
  readonly path: ByteString;
  /** Of hard and symbolic links; empty otherwise. */
  readonly linkTarget: ByteString;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Whole seconds since 1970; negative before. */
  readonly mtime: number;
  readonly mtimeNs: number;
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
  readonly major: number;
  readonly minor: number;
  /** Bytes of the body; 0 for all but files. */
  readonly size: number;
}

export interface TarEntry extends TarHeader {
  /** Where the entry starts in the archive (its first header block), for messages. */
  readonly offset: number;
  /** Where the body starts in the archive. */
  readonly dataOffset: number;
  /**
   * Can be read once, and only before the next entry is asked for; whatever is left then is skipped. Pieces are views
   * of the source's memory.
   */
  readonly body: AsyncIterable<Uint8Array>;
}
