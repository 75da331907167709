/**
 * `nydus-tool merge`: bootstraps of layers become the bootstrap of an image.
 *
 * @module
 */
import { byteStringOf } from "../lib/base/byte-string.ts";
import { NydusError } from "../lib/base/error.ts";
import { writeFileAtomically } from "../lib/content/files.ts";
import { readLayerFile } from "../lib/convert/layer-files.ts";
import { type LayerBootstrap, mergeBootstraps, type OwnBlob } from "../lib/convert/merge-bootstraps.ts";
import { type Arguments, type Command, parseSize } from "./command.ts";
import { formatBytes } from "./progress.ts";

export const merge: Command = {
  name: "merge",
  summary: "Merge bootstraps of layers, lowest first, into the bootstrap of an image",
  operands: "BOOTSTRAP|BLOB...",
  arity: [1, Number.POSITIVE_INFINITY],
  flags: {
    output: { type: "string", short: "o", value: "FILE", help: "where the bootstrap goes" },
    "parent-bootstrap": { type: "string", value: "FILE", help: "an image's bootstrap below all layers" },
    "chunk-dict": {
      type: "string",
      value: "FILE",
      multiple: true,
      help: "a bootstrap whose blobs belong to no layer; may be given again",
    },
    "blob-digests": {
      type: "string",
      value: "A,B,...",
      help: "of the layers' blobs, one a layer; nothing between commas for none",
    },
    "blob-sizes": { type: "string", value: "A,B,...", help: "their bytes" },
    "original-blob-ids": {
      type: "string",
      value: "A,B,...",
      help: "of blobs that have the data of layers whose own blob is only an index (--oci-ref)",
    },
    "blob-toc-digests": { type: "string", value: "A,B,...", help: "of the blobs' tables of contents" },
    "blob-toc-sizes": { type: "string", value: "A,B,...", help: "their bytes" },
    prefetch: {
      type: "string",
      value: "PATH",
      multiple: true,
      help: "data that is wanted first; may be given again (all of it)",
    },
    json: { type: "boolean", help: "say what was made as JSON" },
  },
  examples: [
    ["nydus-tool merge -o image.boot blobs/4f1c... blobs/9a02...", "out of blobs, which have them inside"],
    ["nydus-tool merge -o image.boot 4f1c....boot 9a02....boot", "files called after their blobs' digests"],
    ["nydus-tool merge -o image.boot --blob-digests 4f1c...,9a02... lower.boot upper.boot", "or said so"],
    [
      "nydus-tool merge -o new.boot --parent-bootstrap base.boot blobs/77ab...",
      "one more layer on a finished image",
    ],
  ],
  async run(args, { print, signal }) {
    const output = args.string("output");
    if (output === undefined)
      throw new NydusError("usage", 'Cannot run "merge": say where the bootstrap goes with --output FILE');
    const read = (path: string): Promise<LayerBootstrap> => readLayerFile(path, { signal });
    const said = saidOfBlobs(args);
    const layers = await Promise.all(args.operands.map(read));
    const parent = args.string("parent-bootstrap");
    const prefetch = args.strings("prefetch").map((path) => byteStringOf(path));
    const { bytes, blobs } = await mergeBootstraps(
      layers.map((layer, i) => ({ ...layer, ...(said[i] === undefined ? {} : { own: said[i] }) })),
      {
        ...(parent === undefined ? {} : { parent: await read(parent) }),
        dictionaries: await Promise.all(args.strings("chunk-dict").map(read)),
        ...(prefetch.length === 0 ? {} : { prefetch }),
      },
    );
    await writeFileAtomically(output, bytes, { signal });
    if (args.boolean("json")) print(JSON.stringify({ output, size: bytes.byteLength, blobs }));
    else print(`${output}: ${formatBytes(bytes.byteLength)}, ${blobs.length} blobs`);
  },
};

/** One a layer. */
function saidOfBlobs(args: Arguments): OwnBlob[] {
  const digests = list(args, "blob-digests", digest);
  const sizes = list(args, "blob-sizes", parseSize);
  const ids = list(args, "original-blob-ids", digest);
  const tocDigests = list(args, "blob-toc-digests", digest);
  const tocSizes = list(args, "blob-toc-sizes", parseSize);
  return args.operands.map((_, i) => {
    const all = {
      digest: digests[i],
      size: sizes[i],
      id: ids[i],
      tocDigest: tocDigests[i],
      tocSize: tocSizes[i],
    };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  });
}

function list<T>(args: Arguments, flag: string, parse: (text: string, what: string) => T): (T | undefined)[] {
  const value = args.string(flag);
  if (value === undefined) return [];
  const items = value.split(",");
  if (items.length === args.operands.length)
    return items.map((item) => (item === "" ? undefined : parse(item, `--${flag}`)));
  throw new NydusError(
    "usage",
    `Cannot use --${flag}: it has ${items.length} items for ${args.operands.length} layers`,
  );
}

function digest(text: string, what: string): string {
  const hex = text.replace(/^sha256:/, "");
  if (/^[0-9a-f]{64}$/.test(hex)) return hex;
  throw new NydusError("usage", `Cannot use ${what} "${text}": it is not a SHA-256 digest`);
}
