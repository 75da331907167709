/**
 * A layer with a table of contents becomes a tree whose data stays in the layer. None of the data is fetched.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import type { Fetcher } from "../content/content.ts";
import { EntryTree } from "../content/entry-tree.ts";
import type { PackedContent } from "../convert/packer.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { findToc } from "./find-toc.ts";
import { PiecesWriter } from "./pieces-writer.ts";
import { parseToc, type TocEntry } from "./toc.ts";

export interface TocLayer extends PackedContent {
  readonly format: "eStargz" | "zstd:chunked";
  /** Files before the landmark, which the image's author wants first; all there are in the order of the layer. */
  readonly prefetch: readonly ByteString[];
}

const PREFETCH_LANDMARK = ".prefetch.landmark";

/** @throws corrupt; unsupported when the table cannot be served from; what the fetcher throws */
export async function readTocLayer(
  fetcher: Fetcher,
  layer: Descriptor,
  options: { readonly chunkSize: number; readonly signal?: AbortSignal },
): Promise<TocLayer> {
  const { signal, chunkSize } = options;
  const { json, compressor, dataSize } = await findToc(
    fetcher,
    layer,
    signal === undefined ? {} : { signal },
  );
  const entries = parseToc(json, dataSize);
  const writer = new PiecesWriter(layer, compressor, chunkSize);
  const tree = new EntryTree<TocEntry>(async ({ chunks, size }) => writer.add(chunks, size));
  for (const entry of entries) await tree.add(entry);
  return {
    tree: tree.root,
    blob: writer.blob,
    file: writer.finish(),
    format: compressor === "gzip" ? "eStargz" : "zstd:chunked",
    prefetch: wantedFirst(entries),
  };
}

function wantedFirst(entries: readonly TocEntry[]): ByteString[] {
  const landmark = entries.findIndex(({ path }) => path === PREFETCH_LANDMARK);
  return entries.slice(0, Math.max(0, landmark)).flatMap(({ kind, path }) => (kind === "file" ? [path] : []));
}
