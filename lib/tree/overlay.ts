/**
 * Lays layers over each other as the OCI image spec says (layer.md, "Whiteouts"): `.wh.NAME` hides NAME of the layers
 * below, `.wh..wh..opq` hides all that the layers below have in that directory. Neither touches entries of its own
 * layer, whatever their order, and no marker is left in the result, not even one of the lowest layer.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { byteStringOf } from "../base/byte-string.ts";
import { type Directory, directory, type Node } from "./tree.ts";

const WHITEOUT = ".wh.";
/** AUFS's own files; of these only the opaque marker means something. */
const WHITEOUT_META = ".wh..wh.";
const OPAQUE = byteStringOf(".wh..wh..opq");

function isWhiteout(name: ByteString): boolean {
  return name.startsWith(WHITEOUT);
}

/**
 * One tree out of layers, lowest first. The layers are not changed; the result shares their files. A directory that
 * its layer does not mention itself (implicit) keeps the attributes that lower layers gave it.
 */
export function mergeLayers(layers: readonly Directory[]): Directory {
  return (
    layers.reduce<Directory | undefined>((lower, upper) => overlay(lower, upper), undefined) ?? directory()
  );
}

function overlay(lower: Directory | undefined, upper: Directory): Directory {
  const entries = new Map<ByteString, Node>(upper.entries.has(OPAQUE) ? [] : lower?.entries);
  for (const name of upper.entries.keys()) {
    if (isWhiteout(name) && !name.startsWith(WHITEOUT_META))
      entries.delete(name.slice(WHITEOUT.length) as ByteString);
  }
  for (const [name, node] of upper.entries) {
    if (isWhiteout(name)) continue;
    const below = entries.get(name);
    entries.set(
      name,
      node.kind === "directory" ? overlay(below?.kind === "directory" ? below : undefined, node) : node,
    );
  }
  const keeps = upper.implicit === true && lower !== undefined;
  return {
    kind: "directory",
    attributes: keeps ? lower.attributes : upper.attributes,
    implicit: upper.implicit === true && (lower === undefined || lower.implicit === true),
    entries,
  };
}
