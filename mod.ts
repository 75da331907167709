/**
 * nydus-tool as a library: open an image, walk it, read files lazily, convert it. It runs on Bun.
 *
 * What all of it has in common:
 *
 * - *Locations* are written as on the command line: a registry reference or `docker://REF`, `oci:DIR[:TAG]`,
 *   `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]`; where a Nydus image is wanted also the path of a bootstrap
 *   file; where a conversion or a comparison takes files also `dir:PATH`.
 * - *Sizes and offsets* are bytes, ranges are [start, end), times are seconds since 1970 with nanoseconds beside them.
 * - *Names* inside images are bytes, held as `ByteString`: one character a byte. `byteStringOf` and `printable` convert.
 * - *Errors* are `NydusError` with a `code`: `not_found`, `corrupt` (bytes that must not be trusted), `unavailable` (try
 *   again), `denied`, `unsupported`, `usage`, `exists`, `no_space`, `busy`, `cancelled`.
 * - *Trust*: nothing that comes from outside is believed. Bootstraps are checked completely when an image is opened, every
 *   chunk is verified against its digest before anybody sees it.
 * - What holds something open is an `AsyncDisposable`; long work takes an `AbortSignal`.
 *
 * Formats: RAFS v5 and v6 of the Nydus project, which are described in `lib/rafs`; OCI image-spec and distribution-spec.
 * Every function has a program in `examples/` that a test runs.
 *
 * Three walks through the code, by file names:
 *
 * 1. *A layer becomes a blob*: `cmd/convert` -> `convert/image` -> `convert/pack-layer` -> `tar/reader` ->
 *    `tree/layer-tree` -> `blob/chunker`, `blob/blob-writer`; then `convert/merge` -> `tree/overlay` -> `rafs/writer`.
 * 2. *A blob becomes a read file*: `mount/fuse-worker` -> `mount/device-operations` -> `blob/ready-map` (hit: reply);
 *    else `mount/fuse-session` -> `blob/reader` -> `registry/store` -> decompress -> verify -> `blob/cache` -> reply.
 * 3. *containerd gets it*: `snapshot/service` -> `snapshot/snapshotter` -> `snapshot/labels` -> (skip the layer | plain
 *    layer | `mount/client`) -> `snapshot/mounts`.
 *
 * @module
 */

// Errors.

/**
 * The one error type, with a meaning that programs can act upon; `isCode` asks for it. `MEANINGS` in its source has exit
 * code, errno and gRPC status of each. Example: `examples/check.ts`.
 */
export { type ErrorCode, isCode, NydusError } from "./lib/base/error.ts";

// Names.

/**
 * Names inside images are bytes. `byteStringOf` makes one of text (as UTF-8), `printable` shows one to people, with
 * `\xNN` for what is not UTF-8. Examples: `examples/open-image.ts`, `examples/bootstrap.ts`.
 */
export { type ByteString, byteStringOf, printable } from "./lib/base/byte-string.ts";

// Open a Nydus image, walk it, read its files.

/** Where an image is: location, platform, where a bootstrap file's blobs are, and how to talk to registries. */
export type { ImageLocation } from "./lib/image/location.ts";
/**
 * A Nydus image to look into. `NydusImage.open({ location })` reads manifest, config and bootstrap, and checks the
 * bootstrap completely; `root` is its file tree; `read(file, { start, end })` gives a range of a file in verified pieces
 * and fetches no chunk that the range does not touch; `chunks` gives many chunks in few requests.
 *
 * Throws `not_found`, `unsupported` for an image that is no Nydus one, `corrupt`, and what registries answer
 * (`unavailable`, `denied`). Examples: `examples/open-image.ts`, `examples/read-file.ts`.
 */
export { NydusImage, type ReadOptions } from "./lib/image/nydus-image.ts";
/**
 * Makes a Nydus image of any other on this machine, for as long as it is open: given to `NydusImage.open` as `adopt`, it
 * opens images of plain, eStargz and zstd:chunked layers, the last two without reading their data. Throws `corrupt`, and
 * what the image's place throws. Example: `examples/ordinary-image.ts`.
 */
export { adoptForNow } from "./lib/layers/adopt.ts";
/** A tree as text, a line a name with all attributes. Example: `examples/open-image.ts`. */
export { dumpTree } from "./lib/tree/dump.ts";
/** The node at a path; symbolic links are not followed. Throws `not_found`. Example: `examples/open-image.ts`. */
export { nodeAt } from "./lib/tree/find.ts";
/** The file tree, neutral to formats: a hard link is one node under several names. */
export type { Attributes, BlobRef, ChunkRef, Directory, Node, RegularFile } from "./lib/tree/tree.ts";
/** Makes an empty directory for a tree; without attributes 0755, owned by root, of time 0. Example: `examples/bootstrap.ts`. */
export { directory } from "./lib/tree/tree.ts";
/**
 * Every name of a tree, directories before what is in them, names in byte order; a directory is left again when all in it
 * was visited. Throws `corrupt` for names that no file can have. Example: `examples/open-image.ts`.
 */
export { type Visit, visits } from "./lib/tree/walk.ts";

// Convert.

/**
 * Converts an ordinary image or a directory to a Nydus image; a Nydus image is copied. The same input gives the same
 * bytes. `compressor` is a must; chunk size (1 MiB), digester (SHA-256) and RAFS version (6) have defaults. Gives digests
 * and sizes of what was made.
 *
 * Throws `usage` for options that make no sense together, `corrupt`, `unsupported`, and what source and target throw;
 * nothing is named in the target before all is there. Example: `examples/convert.ts`.
 */
export { type ConvertRequest, convert } from "./lib/convert/convert.ts";
/** A layer for `mergeBootstraps`: a bootstrap file, or a blob with one inside. Throws `not_found`, `corrupt`. Example: `examples/merge.ts`. */
export { readLayerFile } from "./lib/convert/layer-files.ts";
/**
 * Lays bootstraps of layers over each other, lowest first, as an image. `readLayerFile` takes one from a file, or out of
 * a blob. Throws `corrupt`, `unsupported` for layers that do not go together, `usage` when a blob's digest is not known.
 * Example: `examples/merge.ts`.
 */
export { type LayerBootstrap, mergeBootstraps } from "./lib/convert/merge-bootstraps.ts";
/** What a conversion made: digests, sizes in bytes and seconds, layer by layer. */
export type { ConvertReport } from "./lib/convert/report.ts";
/**
 * Makes an ordinary image of a Nydus image, with the layers that it was made of where its blobs still know them, else in
 * one (`squashed` says why). Throws as `NydusImage.open` and the target do. Example: `examples/reverse-and-diff.ts`.
 */
export { type ReverseRequest, reverse } from "./lib/convert/reverse.ts";

// Put an image on disk.

/**
 * All of a tree in an empty directory: owners, modes, times, xattrs, devices, hard links. Needs root. Throws `exists`
 * when the directory is not empty, `denied`, `no_space`, and what reading chunks throws. Example: `examples/unpack.ts`.
 */
export { unpackDirectory } from "./lib/unpack/directory.ts";
/** All of a tree as a tar, piece by piece; needs no rights. Sockets have no form in it. Example: `examples/unpack.ts`. */
export { treeToTar } from "./lib/unpack/tar.ts";

// Inspect, check, compare.

/**
 * Reads every blob and verifies each chunk; gives violations with blob, stored offset and the files concerned, at most a
 * thousand. Throws only what is no damage: `unavailable`, `denied`, `cancelled`. Example: `examples/check.ts`.
 */
export { checkData, type DataReport, type DataViolation } from "./lib/inspect/check-data.ts";
/** Opens one side of a comparison. Throws as `NydusImage.open` and `openStore` do. Example: `examples/reverse-and-diff.ts`. */
export { type ContentSource, openContent } from "./lib/inspect/content-tree.ts";
/**
 * What differs between two things with files, path by path, with both values. `openContent` takes Nydus images, ordinary
 * ones, bootstrap files and `dir:PATH`. Content is compared by digests of chunks; a Nydus image's data is fetched only
 * when the other side is one that is cut or hashed in another way. Example: `examples/reverse-and-diff.ts`.
 */
export { type Difference, diffContents } from "./lib/inspect/diff.ts";
/**
 * Superblock, tables, blobs and prefetch list of a bootstrap, ready for `JSON.stringify`; the same as `nydus-tool inspect
 * --json`. Example: `examples/bootstrap.ts`.
 */
export { type ImageFacts, imageFacts } from "./lib/inspect/image-facts.ts";
/**
 * Sizes, deduplication and compression of images, by layer and by kind of entry; of several also what they share. Bytes
 * throughout, ratios as numbers. Example: `examples/stat.ts`.
 */
export { type StatReport, statImages } from "./lib/inspect/stat.ts";

// Bootstraps.

/** What chunks are named by: SHA-256 or BLAKE3, 32 bytes. Example: `examples/bootstrap.ts`. */
export { type ChunkDigester, type ChunkHasher, chunkHasher, type Digest } from "./lib/base/digest.ts";
/** What a v6 bootstrap says of one data blob: an entry of the blob table. */
export type { BlobInfo } from "./lib/rafs/blob-table.ts";
/** A rule that a bootstrap breaks: path in the image ("" for tables), byte offset in the bootstrap, message. */
export type { Violation } from "./lib/rafs/check.ts";
/**
 * Bootstraps of RAFS v5 and v6, all in memory. `openImage` proves the tables, `checkImage` all the rest: violations with
 * path and byte offset, none for a bootstrap that the kernel may mount. `readTree` gives the file tree, of a bootstrap
 * that was checked. `writeImage` writes one, byte for byte as the reference lays it out.
 *
 * `openImage` throws `corrupt`, and `unsupported` for kinds that are not served; `writeImage` throws `corrupt` for trees
 * that no file system can have, `unsupported` for those that are too large. Examples: `examples/bootstrap.ts`,
 * `examples/check.ts`.
 */
export {
  checkImage,
  openImage,
  type RafsImage,
  readTree,
  type WriteImageOptions,
  writeImage,
} from "./lib/rafs/image.ts";

// Stores.

/** The seam: where bytes come from and where they go. Whoever implements `ImageStore` can be converted from and to. */
export type { Fetcher, ImageStore } from "./lib/content/content.ts";
/** The bootstrap out of a Nydus image's last layer, verified against the layer's digest. Example: `examples/check.ts`. */
export { readBootstrapLayer } from "./lib/image/bootstrap-layer.ts";
/** Copies an image, or an index with all of its images, without what the target has. Example: `examples/convert.ts`. */
export { copyImage } from "./lib/image/copy.ts";
/**
 * Manifest, config and layers of an image, picked for a platform (this machine's) and checked against each other;
 * `isNydusImage` tells whether it is a Nydus one. Throws `not_found`, `corrupt`. Example: `examples/convert.ts`.
 */
export { isNydusImage, loadImage } from "./lib/image/load.ts";
/**
 * Opens the store that a location names, and the tag or digest inside it; `create` makes local ones. Throws `usage`, and
 * what opening the place throws. Example: `examples/convert.ts`.
 */
export { openStore } from "./lib/image/open.ts";
