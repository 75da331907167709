/**
 * Symbolic links longer than a block, in tarfs. The reference says of them what EROFS says (full blocks somewhere, the
 * tail behind the inode), but writes the whole target behind the inode. We read them there; the kernel gets a copy of
 * the bootstrap with those targets in blocks at its end.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { viewOf } from "../base/struct.ts";
import { type Bootstrap, openBootstrap } from "./bootstrap.ts";
import { checkBootstrap } from "./check.ts";
import { extendedInode, LAYOUT } from "./inode.ts";
import { isMisplaced } from "./inode-reader.ts";
import { leaves } from "./leaves.ts";
import { BLOCK_SIZE } from "./superblock.ts";

const LAYOUT_BITS = 7 << 1;
const { format, union } = extendedInode.fields;

/**
 * For a bootstrap that `checkBootstrap` has passed.
 *
 * @returns a checked copy for the kernel; undefined when there is nothing to put right
 * @throws corrupt, unsupported when the copy would not be good
 */
export function withPlacedLinks(image: Bootstrap): Uint8Array | undefined {
  const found = [...leaves(image)].filter((inode) => isMisplaced(inode, image.superblock));
  if (found.length === 0) return undefined;
  const { blockSize } = image.superblock;
  const room = found.reduce((sum, { size }) => sum + alignUp(size, blockSize), 0);
  const copy = new Uint8Array(alignUp(image.bytes.byteLength + room, BLOCK_SIZE));
  copy.set(image.bytes);
  const view = viewOf(copy);
  let end = image.bytes.byteLength;
  for (const { nid, at, size } of found) {
    copy.set(image.readlink(nid), end);
    format.write(view, at, (format.read(view, at) & ~LAYOUT_BITS) | (LAYOUT.plain << 1));
    union.write(view, at, end / blockSize);
    end += alignUp(size, blockSize);
  }
  // Structures of a hostile image may share bytes: what was checked is not what is there now.
  const [violation] = checkBootstrap(copy);
  if (violation !== undefined)
    throw new NydusError(
      "unsupported",
      `Cannot put the long links of the bootstrap where the kernel finds them: ${violation.path}: ${violation.message}`,
    );
  for (const { nid } of found)
    if (Buffer.compare(openBootstrap(copy).readlink(nid), image.readlink(nid)) !== 0)
      throw corrupt(`Cannot read the bootstrap: link ${nid} shares its bytes with something else`);
  return copy;
}
