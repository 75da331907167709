/**
 * nydus-tool as a library: container images that start before they are downloaded.
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
export { type ErrorCode, NydusError } from "./lib/base/error.ts";
export type { Fetcher, ImageStore } from "./lib/content/content.ts";
export { readBootstrapLayer } from "./lib/image/bootstrap-layer.ts";
export { isNydusImage, loadImage } from "./lib/image/load.ts";
export { openStore } from "./lib/image/open.ts";
export { type Bootstrap, openBootstrap } from "./lib/rafs/bootstrap.ts";
export { checkBootstrap, type Violation } from "./lib/rafs/check.ts";
export { readTree } from "./lib/rafs/tree-reader.ts";
export { writeBootstrap } from "./lib/rafs/writer.ts";
