/**
 * `nydus-tool chunkdict generate`: one chunk dictionary out of several images.
 *
 * @module
 */
import { NydusError } from "../lib/base/error.ts";
import { writeFileAtomically } from "../lib/content/files.ts";
import { type ChunkdictRequest, chunkdictBootstrap, chunkdictImage } from "../lib/convert/chunkdict.ts";
import { openStore } from "../lib/image/open.ts";
import { parsePlatform } from "../lib/oci/platform.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { formatBytes } from "./progress.ts";
import { REGISTRY_FLAGS, registryAccess } from "./registry-flags.ts";

export const chunkdictGenerate: Command = {
  name: "chunkdict generate",
  summary: "Make a chunk dictionary of several Nydus images, for convert --chunk-dict",
  operands: "SOURCE... TARGET",
  arity: [1, Number.POSITIVE_INFINITY],
  flags: {
    output: {
      type: "string",
      short: "o",
      value: "FILE",
      help: "write a bootstrap file instead of an image; then all operands are sources",
    },
    "min-images": { type: "string", value: "N", help: "only chunks that at least N of the sources have (1)" },
    platform: { type: "string", value: "OS/ARCH", help: "which images of indexes (this machine's)" },
    ...REGISTRY_FLAGS,
    json: { type: "boolean", help: "say what was made as JSON" },
  },
  examples: [
    [
      "nydus-tool chunkdict generate registry.example/base:1-nydus registry.example/base:2-nydus registry.example/base:dict",
      "an image: its blobs come along",
    ],
    [
      "nydus-tool chunkdict generate -o base.dict oci:./base:1 oci:./base:2",
      "a file: blobs stay where they are",
    ],
    [
      "nydus-tool convert --chunk-dict registry.example/base:dict registry.example/base:3 registry.example/base:3-nydus",
      "then: store only what is in none of them",
    ],
  ],
  async run(args, context) {
    const file = args.string("output");
    const report = file === undefined ? await toImage(args, context) : await toFile(file, args, context);
    if (args.boolean("json")) return context.print(JSON.stringify(report.json, undefined, 2));
    for (const line of report.lines) context.print(line);
  },
};

interface Report {
  readonly json: object;
  readonly lines: readonly string[];
}

async function toFile(file: string, args: Arguments, context: Context): Promise<Report> {
  const { bootstrap, report } = await chunkdictBootstrap(requestOf(args.operands, args, context));
  await writeFileAtomically(file, bootstrap);
  const lines = [`${file} is ready`, `${report.chunks} chunks of ${report.blobs.length} blobs`];
  return { json: { ...report, file }, lines };
}

async function toImage(args: Arguments, context: Context): Promise<Report> {
  const target = args.operands.at(-1);
  const sources = args.operands.slice(0, -1);
  if (target === undefined || sources.length === 0)
    throw new NydusError(
      "usage",
      "Cannot make a chunk dictionary: name its sources and a TARGET, or -o FILE",
    );
  const request = requestOf(sources, args, context);
  const { store, reference } = await openStore(target, { ...request, create: true });
  await using _store = store;
  const report = await chunkdictImage(request, { store, reference });
  const { chunks, blobs, targetDigest, targetSize, pushedSize } = report;
  const lines = [
    `${target} is ready (${targetDigest})`,
    `${chunks} chunks of ${blobs.length} blobs, ${formatBytes(targetSize)} in all; ${formatBytes(pushedSize)} sent`,
  ];
  return { json: { ...report, target }, lines };
}

function requestOf(sources: readonly string[], args: Arguments, { signal }: Context): ChunkdictRequest {
  const platform = args.string("platform");
  const minImages = args.count("min-images");
  return {
    sources,
    ...registryAccess(args),
    signal,
    ...(platform === undefined ? {} : { platform: parsePlatform(platform) }),
    ...(minImages === undefined ? {} : { minImages }),
  };
}
