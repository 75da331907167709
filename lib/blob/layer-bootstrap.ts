/**
 * Takes the layer's own bootstrap out of a blob file: what the layer held before others were laid over it.
 *
 * @module
 */
import { decompressChunk } from "../base/compression.ts";
import { sameBytes, sha256 } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import type { Fetcher } from "../content/content.ts";
import { readAll } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type ReadAt, readSections, SECTION } from "./framing.ts";
import { decodeToc, type TocEntry } from "./toc.ts";

/** Of some ten million files. */
const MAX_BOOTSTRAP = 2 ** 30;
const MAX_TOC = 2 ** 16;

/**
 * @param blob with its true size: sections are found from the end
 * @returns undefined when the blob has no such section. @throws corrupt, and what the fetcher throws
 */
export async function readLayerBootstrap(
  fetcher: Fetcher,
  blob: Descriptor,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Uint8Array | undefined> {
  const read: ReadAt = async (start, length) => {
    const body = await fetcher.fetch(blob, { ...options, range: { start, end: start + length } });
    return await readAll(body, length, `blob "${blob.digest}"`);
  };
  const bad = (state: string): Error =>
    corrupt(`Cannot read the layer's bootstrap of "${blob.digest}": ${state}`);
  const sections = await readSections(read, blob.size);
  const toc = sections.find(({ name }) => name === SECTION.toc);
  if (toc === undefined) {
    // Blobs without a table of contents, as those of RAFS v5 are, have it as it is.
    const plain = sections.find(({ name }) => name === SECTION.bootstrap);
    if (plain !== undefined && plain.size > MAX_BOOTSTRAP) throw bad(`it has ${plain.size} bytes`);
    return plain && (await read(plain.offset, plain.size));
  }
  if (toc.size > MAX_TOC) throw bad(`its table of contents has ${toc.size} bytes`);
  const entry = decodeToc(await read(toc.offset, toc.size)).find(({ name }) => name === SECTION.bootstrap);
  if (entry === undefined) return undefined;
  assertInside(entry, blob, bad);
  const stored = await read(entry.offset, entry.compressedSize);
  const bootstrap = decompressChunk(entry.compressor, stored, entry.uncompressedSize);
  if (!sameBytes(sha256(bootstrap), entry.digest)) throw bad("it does not match its digest");
  return bootstrap;
}

function assertInside(entry: TocEntry, blob: Descriptor, bad: (state: string) => Error): void {
  const { offset, compressedSize, uncompressedSize } = entry;
  if (compressedSize > MAX_BOOTSTRAP || uncompressedSize > MAX_BOOTSTRAP)
    throw bad(`it has ${Math.max(compressedSize, uncompressedSize)} bytes`);
  if (offset + compressedSize > blob.size) throw bad("it lies past the blob's end");
}
