/**
 * The seam: where bytes come from and where they go. A registry, an OCI layout, an archive and memory all implement
 * it; caches, retries and limits wrap it.
 *
 * @module
 */
import type { Digest } from "../base/digest.ts";
import type { Descriptor } from "../oci/descriptor.ts";

/** Bytes [start, end): `end` is exclusive. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface FetchOptions {
  readonly range?: ByteRange;
  /**
   * Rather fail with `unsupported` than read a whole blob for a part of it: whoever wants more than this part then
   * reads all of it once.
   */
  readonly partsOnly?: boolean;
  /** Told of each place that gives bytes of the body, before they come; only sources with several places do so. */
  readonly from?: (place: string) => void;
  /** This part came wrong before, from these places: another one is asked, if there is one. */
  readonly damaged?: readonly string[];
  readonly signal?: AbortSignal;
}

/** How a place that gives bytes has been lately. Names hold no secrets. */
export interface SourceStatus {
  readonly name: string;
  /** "resting": it failed, and is asked last for a moment. "down": its health check says no. */
  readonly state: "well" | "resting" | "down";
  readonly failures: number;
  /** What went wrong the last time, and when (milliseconds since 1970). */
  readonly lastFailure?: { readonly error: string; readonly at: number };
}

/** Where bytes come from. */
export interface Fetcher {
  /** The places behind it, where there are several or they can fail. */
  sources?(): readonly SourceStatus[];

  /**
   * A whole body is verified against size and digest while it streams: the failure comes at the end, so give nothing a
   * final name before the stream closes. A ranged body has exactly `end - start` bytes but cannot be verified here.
   * Manifests and indexes are fetched the same way (the media type says which they are).
   *
   * @throws not_found, denied, unavailable, corrupt
   */
  fetch(descriptor: Descriptor, options?: FetchOptions): Promise<ReadableStream<Uint8Array>>;
  /** Bytes of a blob that only its digest is known of; undefined when it is not there. Not every place can say. */
  sizeOf?(digest: Digest, options?: { signal?: AbortSignal }): Promise<number | undefined>;
}

export interface BlobStore extends Fetcher {
  has(descriptor: Descriptor, options?: { signal?: AbortSignal }): Promise<boolean>;
  /** Stores nothing unless size and digest match. Storing what is there already is not an error. */
  push(
    descriptor: Descriptor,
    body: ReadableStream<Uint8Array>,
    options?: { signal?: AbortSignal },
  ): Promise<void>;
}

/** One repository: blobs and manifests, with names (tags) for some manifests. */
export interface ImageStore extends BlobStore, AsyncDisposable {
  /** For messages: "docker://host/name", "oci:dir". No secrets. */
  readonly name: string;
  /** The manifest or index a tag (or digest) stands for; without one the store's only or default image. */
  resolve(reference?: string, options?: { signal?: AbortSignal }): Promise<Descriptor>;
  /** Make a stored manifest or index findable under a tag; without one, under the store's default. */
  tag(descriptor: Descriptor, reference?: string, options?: { signal?: AbortSignal }): Promise<void>;
}
