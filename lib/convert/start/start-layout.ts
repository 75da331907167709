/**
 * What a conversion does about an image's start: finds its files, lays them first in their blobs, and names them for the
 * prefetch table. Paths that somebody gave are laid first in the same way.
 *
 * @module
 */
import type { ByteString } from "../../base/byte-string.ts";
import { chunkHasher } from "../../base/digest.ts";
import type { RunConfig } from "../../oci/config.ts";
import { findNode } from "../../tree/find.ts";
import { mergeLayers } from "../../tree/overlay.ts";
import { selectPaths } from "../../tree/select-paths.ts";
import type { Directory, Node, RegularFile } from "../../tree/tree.ts";
import type { MergeOptions } from "../merge.ts";
import type { PackedContent } from "../packer.ts";
import { isMovable, isScattered, layHotFirst } from "./hot-first.ts";
import { PackedData } from "./packed-data.ts";
import { hasCommand, startFiles } from "./start-files.ts";

export interface StartLayout<L extends PackedContent> {
  readonly layers: readonly L[];
  /** For the prefetch table; undefined when nothing is known. */
  readonly prefetch: readonly ByteString[] | undefined;
}

/** Whether a layer waits for the others: its blob might have to be written anew. */
export function mayMove(layer: PackedContent, config: RunConfig | undefined, options: MergeOptions): boolean {
  const { prefetch, fsVersion } = options;
  if (fsVersion === 5 || (prefetch === undefined && !hasCommand(config))) return false;
  return !namesAll(prefetch) && isMovable(layer);
}

/** Whether its blob is read when the start is derived, so that it has to stay until then. */
export function mayBeRead(
  layer: PackedContent,
  config: RunConfig | undefined,
  { prefetch }: MergeOptions,
): boolean {
  return prefetch === undefined && hasCommand(config) && layer.file.original === undefined;
}

/** All of the image has no first part. */
function namesAll(prefetch: readonly ByteString[] | undefined): boolean {
  return prefetch?.some((pattern) => /^\/*$/.test(pattern)) === true;
}

/** Beyond this, the order of all is no order. */
const MOST_FILES = 5000;

/** @param layers lowest first; the same one may occur twice */
export async function layOutStart<L extends PackedContent>(
  layers: readonly L[],
  config: RunConfig | undefined,
  options: MergeOptions,
): Promise<StartLayout<L>> {
  const root = mergeLayers(layers.map(({ tree }) => tree));
  const { prefetch: given } = options;
  const { files, paths } = given === undefined ? derived(layers, root, config, options) : chosen(root, given);
  const hot = [...new Set(files.flatMap(({ chunks }) => chunks))];
  const hasher = await chunkHasher(options.digester);
  const laid = new Map<L, L>();
  for (const layer of new Set(layers)) {
    const move = mayMove(layer, config, options) && isScattered(layer, hot);
    laid.set(layer, move ? await layHotFirst(layer, hot, options, hasher) : layer);
  }
  return { layers: layers.map((layer) => laid.get(layer) ?? layer), prefetch: given ?? paths };
}

interface Start {
  readonly files: readonly RegularFile[];
  readonly paths: readonly ByteString[] | undefined;
}

function derived<L extends PackedContent>(
  layers: readonly L[],
  root: Directory,
  config: RunConfig | undefined,
  { chunkSize }: MergeOptions,
): Start {
  using data = new PackedData(layers, chunkSize);
  const found = startFiles(root, config, (file, offset, length) => data.read(file, offset, length));
  const paths = found.map(({ path }) => path as ByteString);
  return { files: found.map(({ file }) => file), paths: paths.length === 0 ? undefined : paths };
}

function chosen(root: Directory, patterns: readonly ByteString[]): Start {
  const files: RegularFile[] = [];
  if (namesAll(patterns)) return { files, paths: undefined };
  for (const path of selectPaths(root, patterns).paths)
    if (files.length <= MOST_FILES) files.push(...filesIn(findNode(root, path)));
  return { files: files.length > MOST_FILES ? [] : files, paths: undefined };
}

function* filesIn(node: Node | undefined): Generator<RegularFile> {
  if (node?.kind === "file") yield node;
  else if (node?.kind === "directory") for (const child of node.entries.values()) yield* filesIn(child);
}
