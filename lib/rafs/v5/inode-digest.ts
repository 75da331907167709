/**
 * What the digest of an inode covers: a file's chunk digests, a link's target, the digests of what is in a directory.
 * Names and attributes are not covered.
 *
 * @module
 */
import type { ChunkHasher } from "../../base/digest.ts";
import { chunkRecord } from "../chunk-record.ts";
import type { V5Bootstrap } from "./bootstrap.ts";
import { inodeRecord } from "./inode.ts";
import type { RawInode } from "./inode-reader.ts";

const DIGEST_SIZE = 32;
const NOTHING = new Uint8Array(0);

export function joinDigests(digests: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(DIGEST_SIZE * digests.length);
  for (const [i, digest] of digests.entries()) joined.set(digest, DIGEST_SIZE * i);
  return joined;
}

/** Of what is stored now. Precondition: the directory's children are in the inode table. */
export function contentDigest(image: V5Bootstrap, inode: RawInode, hasher: ChunkHasher): Uint8Array {
  return hasher.digest(covered(image, inode));
}

function covered(image: V5Bootstrap, inode: RawInode): Uint8Array {
  const { bytes, view } = image;
  const { kind, target, chunks, childIndex, childCount } = inode;
  switch (kind) {
    case "symlink":
      return bytes.subarray(target.offset, target.offset + target.size);
    case "file":
      return joinDigests(
        Array.from({ length: childCount }, (_, i) =>
          chunkRecord.fields.digest.read(view, chunks.offset + i * chunkRecord.size),
        ),
      );
    case "directory":
      return joinDigests(
        Array.from({ length: childCount }, (_, i) =>
          inodeRecord.fields.digest.read(view, image.raw(childIndex + i).at),
        ),
      );
    default:
      return NOTHING;
  }
}
