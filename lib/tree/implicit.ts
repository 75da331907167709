/**
 * Layers out of bootstraps, which do not tell what their layers left unsaid.
 *
 * @module
 */
import { type Attributes, type Directory, IMPLICIT_DIRECTORY } from "./tree.ts";

/**
 * A bootstrap does not tell which directories its layer did not mention. Those that look like it are taken for such, so
 * that they do not change what lower layers say.
 */
export function withImplicit(dir: Directory): Directory {
  const entries: Directory["entries"] = new Map();
  for (const [name, node] of dir.entries)
    entries.set(name, node.kind === "directory" ? withImplicit(node) : node);
  return { ...dir, implicit: dir.entries.size > 0 && looksImplicit(dir.attributes), entries };
}

function looksImplicit({ mode, uid, gid, mtime, mtimeNs, xattrs }: Attributes): boolean {
  const plain = IMPLICIT_DIRECTORY;
  return (
    mode === plain.mode &&
    uid === plain.uid &&
    gid === plain.gid &&
    mtime === plain.mtime &&
    mtimeNs === plain.mtimeNs &&
    xattrs.size === 0
  );
}
