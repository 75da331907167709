/**
 * `nydus-tool convert`: an image or a directory becomes a Nydus image.
 *
 * @module
 */
import { writeFile } from "node:fs/promises";
import { type ByteString, byteStringOf } from "../lib/base/byte-string.ts";
import { NydusError, toNydusError } from "../lib/base/error.ts";
import { type ConvertRequest, convert as convertBetween } from "../lib/convert/convert.ts";
import type { PackFormat } from "../lib/convert/packer.ts";
import type { ConvertReport } from "../lib/convert/report.ts";
import { type ReverseRequest, reverse } from "../lib/convert/reverse.ts";
import { parsePlatform } from "../lib/oci/platform.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { imageLocation } from "./image-flags.ts";
import { readPathList } from "./path-list.ts";
import { formatBytes } from "./progress.ts";
import { CONTAINERD_FLAGS, REGISTRY_FLAGS, registryAccess, SNAPSHOTTER_FLAG } from "./registry-flags.ts";
import { CONTAINERD, unpackConverted } from "./unpack-converted.ts";

const COMPRESSORS = ["zstd", "lz4_block", "none"] as const;
const DIGESTERS = ["sha256", "blake3"] as const;
const FS_VERSIONS = ["6", "5"] as const;

export const convert: Command = {
  name: "convert",
  summary: "Convert an image or a directory to a Nydus image",
  operands: "SOURCE TARGET",
  arity: [2, 2],
  flags: {
    compressor: { type: "string", value: "NAME", help: "of chunks: zstd (default), lz4_block or none" },
    digester: { type: "string", value: "NAME", help: "of chunks: sha256 (default) or blake3" },
    "fs-version": { type: "string", value: "N", help: "of RAFS: 6 (default), or 5 for old readers" },
    "chunk-size": { type: "string", value: "SIZE", help: "a power of two from 4K to 16M (1M)" },
    "batch-size": {
      type: "string",
      value: "SIZE",
      help: "compress small files together, up to SIZE: a power of two, at most a chunk",
    },
    encrypt: {
      type: "boolean",
      help: "AES-128-XTS; whoever has the bootstrap has the keys, so keep that one private",
    },
    "chunk-dict": {
      type: "string",
      value: "IMAGE|BOOTSTRAP",
      multiple: true,
      help: "a Nydus image whose chunks are not stored again; may be given again",
    },
    "oci-ref": {
      type: "boolean",
      help: "leave the data in the original gzip layers; only an index and a bootstrap are added",
    },
    tarfs: {
      type: "boolean",
      help: "files stay in the tars of the original layers, of any compression; only a bootstrap is added",
    },
    "merge-platform": {
      type: "boolean",
      help: "TARGET becomes an index: the source's images, and the converted one beside them",
    },
    "with-referrer": {
      type: "boolean",
      help: "the converted image refers to the source, in the same repository (see pull --referrers)",
    },
    reverse: { type: "boolean", help: "from a Nydus image back to an ordinary one" },
    platform: {
      type: "string",
      value: "OS/ARCH,...",
      help: "which images of an index (this machine's); several make an index",
    },
    "all-platforms": { type: "boolean", help: "every image of an index" },
    prefetch: {
      type: "string",
      value: "PATH",
      multiple: true,
      help: "data that is wanted first, a path or a pattern, / for no order; may be given again (what the command reads)",
    },
    "prefetch-patterns": {
      type: "string",
      value: "FILE",
      help: "the same from a file, or with - from standard input: one a line; * ? [...] and **",
    },
    "prefetch-files": {
      type: "string",
      value: "FILE",
      help: "a list of files and directories, also as the JSON of nydusify optimize",
    },
    "docker-v2-format": { type: "boolean", help: "write Docker's media types instead of OCI's" },
    concurrency: { type: "string", value: "N", help: "layers at a time (two a core)" },
    "work-dir": { type: "string", value: "DIR", help: "where blobs lie until they are sent (TMPDIR)" },
    "output-json": { type: "string", value: "FILE", help: "write sizes, digests and durations to FILE" },
    json: { type: "boolean", help: "print the same instead of a summary" },
    ...REGISTRY_FLAGS,
    ...CONTAINERD_FLAGS,
    snapshotter: {
      ...SNAPSHOTTER_FLAG,
      help: `unpack a containerd: TARGET with it; ${SNAPSHOTTER_FLAG.help}`,
    },
  },
  examples: [
    ["nydus-tool convert registry.example/app:1 registry.example/app:1-nydus", "from registry to registry"],
    [
      "nydus-tool convert --all-platforms containerd:app:1 containerd:app:1-nydus",
      "where the image is; runs at once, without a push",
    ],
    ["nydus-tool convert oci:./app:1 docker://127.0.0.1:5000/app:nydus", "from a local layout"],
    [
      "nydus-tool convert --oci-ref registry.example/app:1 registry.example/app:1-ref",
      "gzip layers stay the data",
    ],
    [
      "nydus-tool convert --tarfs registry.example/app:1 registry.example/app:1-tarfs",
      "so do layers of any kind",
    ],
    [
      "nydus-tool convert --chunk-dict registry.example/app:1-nydus registry.example/app:2 registry.example/app:2-nydus",
      "store only what is new since version 1",
    ],
    [
      "nydus-tool convert --merge-platform registry.example/app:1 registry.example/app:1",
      "one name for those with and without Nydus",
    ],
    ["nydus-tool convert --reverse registry.example/app:nydus oci:./app:1", "an ordinary image again"],
    ["nydus-tool convert --compressor lz4_block dir:/srv/rootfs oci:./out:app", "a root file system on disk"],
  ],
  async run(args, context) {
    const report = args.boolean("reverse")
      ? await reverse(reverseRequest(args, context))
      : await convertBetween(requestOf(args, context));
    const json = JSON.stringify(report, undefined, 2);
    const file = args.string("output-json");
    if (file !== undefined)
      await writeFile(file, `${json}\n`).catch((error) => {
        throw toNydusError(error, `write "${file}"`);
      });
    if (args.boolean("json")) context.print(json);
    else for (const line of summary(report, args.operand(1))) context.print(line);
    if (!CONTAINERD.test(args.operand(1)) || args.boolean("reverse")) return;
    const outcome = await unpackConverted(args, context);
    if (args.boolean("json")) context.log.info(outcome);
    else context.print(outcome);
  },
};

function requestOf(args: Arguments, context: Context): ConvertRequest {
  const platforms = platformsOf(args);
  const workDirectory = args.string("work-dir");
  const concurrency = args.count("concurrency");
  const prefetch = prefetchOf(args);
  return {
    source: args.operand(0),
    target: args.operand(1),
    ...formatOf(args),
    chunkDicts: args.strings("chunk-dict"),
    reference: args.boolean("oci-ref"),
    tarfs: args.boolean("tarfs"),
    mergePlatform: args.boolean("merge-platform"),
    withReferrer: args.boolean("with-referrer"),
    family: args.boolean("docker-v2-format") ? "docker" : "oci",
    ...registryAccess(args),
    progress: context.progress(),
    signal: context.signal,
    ...(platforms === undefined ? {} : { platforms }),
    ...(workDirectory === undefined ? {} : { workDirectory }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(prefetch === undefined ? {} : { prefetch }),
  };
}

/** An empty list is a list: nothing is wanted first. */
function prefetchOf(args: Arguments): readonly ByteString[] | undefined {
  const paths = args.strings("prefetch").map((path) => byteStringOf(path));
  const files = ["prefetch-patterns", "prefetch-files"].flatMap((flag) => args.string(flag) ?? []);
  if (files.filter((file) => file === "-").length > 1)
    throw new NydusError("usage", "Cannot read two lists from standard input");
  if (paths.length === 0 && files.length === 0) return undefined;
  return [...paths, ...files.flatMap(readPathList)];
}

/** What no flag says follows the chunk dictionaries, if there are any. */
function formatOf(args: Arguments): Partial<PackFormat> {
  const given = (flag: string): boolean => args.string(flag) !== undefined;
  const chunkSize = args.size("chunk-size");
  const batchSize = args.size("batch-size");
  return {
    ...(given("compressor") ? { compressor: args.choice("compressor", COMPRESSORS, "zstd") } : {}),
    ...(given("digester") ? { digester: args.choice("digester", DIGESTERS, "sha256") } : {}),
    ...(given("fs-version")
      ? { fsVersion: args.choice("fs-version", FS_VERSIONS, "6") === "5" ? 5 : 6 }
      : {}),
    ...(chunkSize === undefined ? {} : { chunkSize }),
    // The reference's way to say "none".
    ...(batchSize === undefined || batchSize === 0 ? {} : { batchSize }),
    ...(args.boolean("encrypt") ? { encrypt: true } : {}),
  };
}

function platformsOf(args: Arguments): ConvertRequest["platforms"] | undefined {
  const platform = args.string("platform");
  if (!args.boolean("all-platforms")) return platform?.split(",").map(parsePlatform);
  if (platform === undefined) return "all";
  throw new NydusError("usage", "Cannot convert: --platform and --all-platforms say different things");
}

/** Flags that say how chunks are made have no place here. */
const FORMAT_FLAGS = [
  "compressor",
  "digester",
  "fs-version",
  "chunk-size",
  "batch-size",
  "encrypt",
  "chunk-dict",
  "oci-ref",
  "tarfs",
  "prefetch",
  "prefetch-patterns",
  "prefetch-files",
  "concurrency",
  "merge-platform",
  "with-referrer",
] as const;

function reverseRequest(args: Arguments, context: Context): ReverseRequest {
  for (const flag of FORMAT_FLAGS)
    if (args.string(flag) !== undefined || args.strings(flag).length > 0 || args.boolean(flag))
      throw new NydusError("usage", `Cannot use --${flag}: there is nothing for it in --reverse`);
  const workDirectory = args.string("work-dir");
  return {
    ...imageLocation(args, 0, context),
    target: args.operand(1),
    family: args.boolean("docker-v2-format") ? "docker" : "oci",
    progress: context.progress(),
    ...(workDirectory === undefined ? {} : { workDirectory }),
  };
}

function summary(report: ConvertReport, target: string): string[] {
  const sent = `${formatBytes(report.pushedSize)} sent in ${report.seconds.toFixed(1)} s`;
  if (report.copied)
    return [
      `${target} is a copy: the source is a Nydus image already (${report.targetDigest})`,
      `${formatBytes(report.targetSize)} in all, ${sent}`,
    ];
  const count = report.layers.length === 1 ? "1 layer" : `${report.layers.length} layers`;
  const { bootstrap, prefetchUnmatched = [], squashed } = report;
  const part = bootstrap === undefined ? "" : `, of which the bootstrap ${formatBytes(bootstrap.size)}`;
  return [
    `${target} is ready (${report.targetDigest})`,
    `${count}, ${formatBytes(report.targetSize)} in all${part}; ${sent}`,
    ...prefetchUnmatched.map((pattern) => `the image has nothing for "${pattern}"`),
    ...(squashed === undefined ? [] : [`all is one layer: ${squashed}`]),
  ];
}
