/**
 * What the digest of an inode covers: a file's chunk digests, a link's target, the digests of what is in a directory.
 * Names and attributes are not covered.
 *
 * @module
 */
import { bytesOf } from "../../base/byte-string.ts";
import type { ChunkHasher } from "../../base/digest.ts";
import { chunkRecord } from "../chunk-record.ts";
import type { V5Bootstrap } from "./bootstrap.ts";
import { inodeRecord } from "./inode.ts";
import type { RawInode } from "./inode-reader.ts";
import type { Plan, PlannedName } from "./plan.ts";

const DIGEST_SIZE = 32;
const NOTHING = new Uint8Array(0);

function joinDigests(digests: readonly Uint8Array[]): Uint8Array {
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

/** Of what is to be written, by number less 1. What is in a directory has higher numbers: the last one comes first. */
export function digestNames({ names }: Pick<Plan, "names">, hasher: ChunkHasher): Uint8Array[] {
  const digests = new Array<Uint8Array>(names.length);
  const ofFirstName = new Map<PlannedName["shared"], Uint8Array>();
  for (const planned of names.toReversed()) {
    const known = ofFirstName.get(planned.shared);
    const digest = known ?? hasher.digest(coveredBy(planned, digests));
    ofFirstName.set(planned.shared, digest);
    digests[planned.number - 1] = digest;
  }
  return digests;
}

function coveredBy({ node, children }: PlannedName, digests: readonly Uint8Array[]): Uint8Array {
  switch (node.kind) {
    case "symlink":
      return bytesOf(node.target);
    case "file":
      return joinDigests(node.chunks.map(({ digest }) => digest));
    case "directory":
      return joinDigests(children.map(({ number }) => digests[number - 1] ?? NOTHING));
    default:
      return NOTHING;
  }
}
