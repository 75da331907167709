/**
 * What a conversion did, for people and for programs (`--output-json`).
 *
 * @module
 */
import { type ByteString, printable } from "../base/byte-string.ts";
import type { Digest } from "../base/digest.ts";
import type { ProvidedBlob } from "./dictionaries.ts";

export interface LayerReport {
  /** Of the source layer; absent for a directory. */
  readonly sourceDigest?: Digest;
  /** Compressed bytes. */
  readonly sourceSize?: number;
  /** Bytes of the uncompressed tar; absent for a directory. */
  readonly tarSize?: number;
  readonly entries: number;
  /** Distinct chunks in the blob. */
  readonly chunks: number;
  readonly digest: Digest;
  readonly size: number;
  /** False when the target had it already. */
  readonly pushed: boolean;
  /** Of a blob that refers to the source layer: how that one got into the target. */
  readonly original?: "present" | "mounted" | "sent";
  /** Reading, compressing and writing it, waiting for a free thread not included. */
  readonly packSeconds: number;
  readonly pushSeconds: number;
}

export interface BootstrapReport {
  readonly digest: Digest;
  /** Bytes of the layer. */
  readonly size: number;
  /** Bytes of `image.boot`. */
  readonly uncompressedSize: number;
  readonly pushed: boolean;
}

export interface DictionaryBlobReport extends Pick<ProvidedBlob, "how"> {
  readonly digest: Digest;
  readonly size: number;
}

export interface ConvertReport {
  readonly sourceDigest?: Digest;
  /** Of the manifest in the target, or of the index that it is in. */
  readonly targetDigest: Digest;
  /** The source was a Nydus image already and was copied. */
  readonly copied: boolean;
  readonly layers: readonly LayerReport[];
  /** Of one of several images: "linux/arm64". */
  readonly platform?: string;
  /** Of an index: its images, one a platform. */
  readonly images?: readonly ConvertReport[];
  readonly bootstrap?: BootstrapReport;
  /** Blobs of chunk dictionaries that the image refers to, and how they got into the target. */
  readonly dictionaryBlobs?: readonly DictionaryBlobReport[];
  /** Paths and patterns of what was to be fetched first that the image has nothing for. */
  readonly prefetchUnmatched?: readonly string[];
  /** Compressed bytes of the source's layers; 0 for a directory. */
  readonly sourceSize: number;
  /** Bytes of all layers in the target, the bootstrap included. */
  readonly targetSize: number;
  /** Bytes that went to the target. */
  readonly pushedSize: number;
  /** Of `--reverse`: why the layers that the image was made of became one. */
  readonly squashed?: string;
  readonly seconds: number;
}

export function secondsSince(start: number): number {
  return Math.round(performance.now() - start) / 1000;
}

/** Of a whole image's assembly: what is only there to say when there is some. */
export function reportOfAssembly(image: {
  readonly dictionaryBlobs: readonly ProvidedBlob[];
  readonly unmatched?: readonly ByteString[];
}): Pick<ConvertReport, "dictionaryBlobs" | "prefetchUnmatched"> {
  const { dictionaryBlobs, unmatched = [] } = image;
  return {
    ...dictionaryReport(dictionaryBlobs),
    ...(unmatched.length === 0 ? {} : { prefetchUnmatched: unmatched.map(printable) }),
  };
}

export function dictionaryReport(blobs: readonly ProvidedBlob[]): Pick<ConvertReport, "dictionaryBlobs"> {
  if (blobs.length === 0) return {};
  return { dictionaryBlobs: blobs.map(({ layer: { digest, size }, how }) => ({ digest, size, how })) };
}

/** What the parts add up to. */
export function totals(
  layers: readonly LayerReport[],
  bootstrap: BootstrapReport,
  dictionaryBlobs: readonly ProvidedBlob[] = [],
): Pick<ConvertReport, "sourceSize" | "targetSize" | "pushedSize"> {
  const others = dictionaryBlobs.map(({ layer: { size }, how }) => ({ size, pushed: how === "sent" }));
  const parts = [...layers, ...others, bootstrap];
  return {
    sourceSize: layers.reduce((sum, { sourceSize = 0 }) => sum + sourceSize, 0),
    targetSize: parts.reduce((sum, { size }) => sum + size, 0),
    pushedSize:
      parts.reduce((sum, { size, pushed }) => sum + (pushed ? size : 0), 0) +
      layers.reduce((sum, { original, sourceSize = 0 }) => sum + (original === "sent" ? sourceSize : 0), 0),
  };
}
