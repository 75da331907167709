/**
 * What `inspect` found, for people.
 *
 * @module
 */
import { byteStringOf } from "../lib/base/byte-string.ts";
import type { ChunkFacts, FoundChunk } from "../lib/inspect/chunk-facts.ts";
import type { BlobFacts, ImageFacts } from "../lib/inspect/image-facts.ts";
import type { LayerFacts, ManifestFacts } from "../lib/inspect/manifest-facts.ts";
import type { NodeFacts } from "../lib/inspect/node-facts.ts";
import { quoted } from "../lib/tree/dump.ts";
import { formatBytes } from "./progress.ts";

const LABEL = 12;

function field(label: string, value: string): string {
  return `${label.padEnd(LABEL)}${value}`;
}

/** Enough to find it again with `--chunk`. */
function short(digest: string): string {
  return digest.replace(/^sha256:/, "").slice(0, 12);
}

/** Exact, and readable. */
function size(bytes: number): string {
  return bytes < 1000 ? `${bytes} B` : `${bytes} B (${formatBytes(bytes)})`;
}

export function imageLines(facts: {
  readonly name: string;
  readonly image?: ManifestFacts;
  readonly bootstrap: ImageFacts;
  readonly violations: number;
}): string[] {
  const { image, bootstrap, violations } = facts;
  return [
    ...(image === undefined ? [] : manifestLines(image)),
    ...bootstrapLines(bootstrap),
    ...bootstrap.blobs.flatMap(blobLines),
    ...(violations === 0 ? [] : [`DAMAGED     ${violations} problems; see nydus-tool check ${facts.name}`]),
  ];
}

function manifestLines({ digest, platform, source, layers }: ManifestFacts): string[] {
  const origin = source === undefined ? "" : `${source.reference ?? "an image"}, ${source.digest}`;
  return [
    field("manifest", `${digest} for ${platform}`),
    ...(origin === "" ? [] : [field("made of", origin)]),
    ...layers.map((layer, i) => field(`layer ${i + 1}`, layerText(layer))),
  ];
}

function layerText({ digest, size: bytes, kind, mediaType, reference }: LayerFacts): string {
  const data = reference === undefined ? "" : `, data in ${reference}`;
  return `${digest}, ${kind === "other" ? mediaType : kind}, ${formatBytes(bytes)}${data}`;
}

function bootstrapLines(facts: ImageFacts): string[] {
  const { version, compressor, digester, chunkSize, flags, inodes, root, tables, prefetch } = facts;
  const chunks = `chunks of ${chunkSize} bytes, ${compressor}, ${digester}`;
  const places = Object.entries(tables).map(([name, { offset, size }]) => `${name} ${size} B at ${offset}`);
  return [
    field("bootstrap", `RAFS v${version}, ${size(facts.size)}, ${chunks}`),
    field("flags", flags.join(" ")),
    field("inodes", `${inodes}, the root is ${root}`),
    field("tables", places.length === 0 ? "none" : places.join(", ")),
    ...prefetch.map(({ nid, path }, i) =>
      field(i === 0 ? "prefetch" : "", `${path === undefined ? "?" : shown(path)} (${nid})`),
    ),
  ];
}

function blobLines(blob: BlobFacts): string[] {
  const { index, id, chunks, compressor, features, compressedSize, uncompressedSize } = blob;
  const { chunkInfo, metadataBlob, toc } = blob;
  const indent = (text: string): string => field("", text);
  return [
    field(`blob ${index}`, id),
    indent(`${chunks} chunks, ${compressor}, ${size(compressedSize)} for ${size(uncompressedSize)}`),
    indent(features.join(" ")),
    ...(chunkInfo === undefined || chunkInfo.uncompressedSize === 0
      ? []
      : [
          indent(
            `chunk table: ${chunkInfo.compressedSize} B at ${chunkInfo.offset}, ${chunkInfo.compressor}`,
          ),
        ]),
    ...(toc === undefined ? [] : [indent(`table of contents: ${toc.size} B, ${toc.digest}`)]),
    ...(metadataBlob === undefined
      ? []
      : [indent(`metadata in ${metadataBlob.digest}, ${formatBytes(metadataBlob.size)}`)]),
  ];
}

export function nodeLines(facts: NodeFacts): string[] {
  const { path, kind, nid, offset, mode, uid, gid, links, target, device, entries, chunks } = facts;
  const number = device === undefined ? "" : ` ${device.major}:${device.minor}`;
  return [
    field("path", `${shown(path)}${target === undefined ? "" : ` -> ${shown(target)}`}`),
    field("kind", `${kind}${number}, ${size(facts.size)}`),
    field("mode", `${mode}, owner ${uid}:${gid}, ${links} ${links === 1 ? "link" : "links"}`),
    field("mtime", timeText(facts.mtime, facts.mtimeNs)),
    field("inode", `${nid} at byte ${offset}`),
    ...Object.entries(facts.xattrs).map(([key, value]) => field("xattr", `${shown(key)} = 0x${value}`)),
    ...(entries ?? []).map(({ name, kind }) => field("entry", `${shown(name)} (${kind})`)),
    ...(chunks ?? []).map((chunk) => field("chunk", chunkText(chunk))),
  ];
}

/** A path is one word, whatever is in it. */
export function shown(text: string): string {
  return quoted(byteStringOf(text));
}

function timeText(seconds: number, nanoseconds: number): string {
  const date = new Date(seconds * 1000);
  const exact = `${seconds}.${String(nanoseconds).padStart(9, "0")}`;
  return Number.isNaN(date.getTime()) ? exact : `${date.toISOString().replace(".000Z", "Z")} (${exact})`;
}

function chunkText(chunk: ChunkFacts): string {
  const { blob, index, compressedOffset, compressedSize, uncompressedOffset, uncompressedSize } = chunk;
  const stored = `${compressedSize} B at ${compressedOffset}${chunk.compressed ? "" : " (not compressed)"}`;
  return `${short(blob)}:${index} stored ${stored}, ${uncompressedSize} B at ${uncompressedOffset}`;
}

export function chunkLines(chunk: FoundChunk): string[] {
  const { digest, crc, unit, users, paths } = chunk;
  const more = users > paths.length ? [field("", `and ${users - paths.length} more`)] : [];
  return [
    field("chunk", chunkText(chunk)),
    ...(digest === undefined ? [] : [field("digest", digest)]),
    ...(crc === undefined ? [] : [field("crc-32c", crc.toString(16).padStart(8, "0"))]),
    ...(unit === undefined
      ? []
      : [field("unit", `${unit.kind} ${unit.index}: ${unit.size} B, the chunk begins at ${unit.offset}`)]),
    ...paths.map((path, i) => field(i === 0 ? "in" : "", shown(path))),
    ...more,
  ];
}
