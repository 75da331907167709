/**
 * Conversion time and size of each kind of image, each beside the default kind (v6, zstd) in the same minute; and what ten
 * versions of one image take with and without chunk dictionaries.
 *
 * @module
 */
import { readdir, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { writeLayout } from "../tests/support/oci-layout.ts";
import { tarOf } from "../tests/support/tar-builder.ts";
import { makeVersions } from "../tests/support/versions.ts";
import type { Table } from "./bench-table.ts";

const TOOL = resolve("dist/nydus-tool");

const DEFAULT: readonly string[] = [];
const KINDS: readonly (readonly [name: string, flags: readonly string[]])[] = [
  ["v6 lz4", ["--compressor", "lz4_block"]],
  ["v6 uncompressed", ["--compressor", "none"]],
  ["v6 zstd, batches of 1 MiB", ["--batch-size", "1M"]],
  ["v6 zstd, encrypted", ["--encrypt"]],
  ["v6 zstd, BLAKE3", ["--digester", "blake3"]],
  ["OCI-referenced", ["--oci-ref"]],
  ["v5 lz4", ["--fs-version", "5", "--compressor", "lz4_block"]],
  ["v5 zstd", ["--fs-version", "5"]],
];

const VERSIONS = { versions: 10, files: 700 };

export interface KindsPlace {
  /** The ordinary image, in the registry. */
  readonly source: string;
  /** "host:port" of a registry that holds little else. */
  readonly host: string;
  /** For layouts; what is put there is removed. */
  readonly directory: string;
  readonly table: Table;
}

interface Conversion {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly sourceSize: number;
  readonly targetSize: number;
  readonly pushedSize: number;
}

export async function benchKinds(place: KindsPlace): Promise<void> {
  for (const [number, [name, flags]] of KINDS.entries()) await benchKind(place, number, name, flags);
  await benchDictionary(place);
  await benchVersions(place);
}

async function convert(flags: readonly string[], source: string, target: string): Promise<Conversion> {
  const child = Bun.spawn([TOOL, "convert", "--json", ...flags, source, target], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all(
    [child.stdout, child.stderr].map((pipe) => new Response(pipe).text()),
  );
  if ((await child.exited) !== 0) throw new Error(`Cannot convert "${source}": ${stderr}`);
  const report = JSON.parse(stdout ?? "") as Omit<Conversion, "cpuSeconds">;
  const usage = child.resourceUsage()?.cpuTime.total ?? 0n;
  return { ...report, cpuSeconds: Number(usage) / 1e6 };
}

const time = ({ seconds, cpuSeconds }: Conversion): string =>
  `${seconds.toFixed(2)} s, ${cpuSeconds.toFixed(1)} s of processor`;
const size = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Each conversion has a repository of its own: what another one has sent is sent again. */
async function benchKind(
  { source, host, table }: KindsPlace,
  number: number,
  name: string,
  flags: readonly string[],
): Promise<void> {
  const beside = await convert(DEFAULT, source, `${host}/kinds/beside${number}:n`);
  const made = await convert(flags, source, `${host}/kinds/kind${number}:n`);
  const share = ((100 * made.targetSize) / made.sourceSize).toFixed(1);
  table.add(`convert, ${name}`, "time", time(made));
  table.add(`convert, ${name}`, "v6 zstd beside it", time(beside));
  table.add(`convert, ${name}`, "size", `${size(made.targetSize)}, ${share}% of ${size(made.sourceSize)}`);
}

async function benchDictionary({ source, host, table }: KindsPlace): Promise<void> {
  const base = `${host}/kinds/base:n`;
  const beside = await convert(DEFAULT, source, base);
  const made = await convert(["--chunk-dict", base], source, `${host}/kinds/again:n`);
  table.add("convert, all chunks in a dictionary", "time", time(made));
  table.add("convert, all chunks in a dictionary", "v6 zstd beside it", time(beside));
  table.add(
    "convert, all chunks in a dictionary",
    "sent",
    `${size(made.pushedSize)} of ${size(made.targetSize)}`,
  );
}

async function benchVersions({ directory, table }: KindsPlace): Promise<void> {
  const root = join(directory, "versions");
  const [plain, shared] = [join(root, "plain"), join(root, "shared")];
  const layouts: string[] = [];
  try {
    for (const [i, layer] of makeVersions(1, VERSIONS).entries()) {
      const { directory: layout, tag } = await writeLayout(join(root, `oci${i}`), [tarOf(layer)], {
        gzipLevel: 6,
      });
      layouts.push(layout);
      const source = `oci:${layout}:${tag}`;
      await convert(DEFAULT, source, `oci:${plain}:v${i}`);
      const dictionary = i === 0 ? [] : ["--chunk-dict", `oci:${shared}:v${i - 1}`];
      await convert(dictionary, source, `oci:${shared}:v${i}`);
    }
    table.add("ten versions", "OCI, gzip -6", size(await roomOf(layouts)));
    table.add("ten versions", "v6 zstd", size(await roomOf([plain])));
    table.add("ten versions", "each with the one before as dictionary", size(await roomOf([shared])));
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** Bytes of all blobs of layouts. */
async function roomOf(layouts: readonly string[]): Promise<number> {
  let room = 0;
  for (const layout of layouts) {
    const blobs = join(layout, "blobs/sha256");
    for (const name of await readdir(blobs)) room += (await stat(join(blobs, name))).size;
  }
  return room;
}
