/** Client of containerd's diff service. @module */

import { type Digest, parseDigest } from "../base/digest.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { ContainerdClient } from "./client.ts";
import { Diff } from "./gen/diff_pb.ts";
import { targetOf } from "./images.ts";
import type { Mount } from "./snapshots.ts";

/** Unpack a layer of the content store onto mounts; gives back the digest of the uncompressed tar, the diff id. */
export async function applyLayer(
  client: ContainerdClient,
  layer: Descriptor,
  mounts: readonly Mount[],
  options: { readonly signal?: AbortSignal } = {},
): Promise<Digest> {
  const request = {
    diff: targetOf(layer),
    mounts: mounts.map((mount) => ({ ...mount, options: [...mount.options] })),
  };
  const action = `unpack layer "${layer.digest}"`;
  const { applied } = await client.call(action, () => client.service(Diff).apply(request, options));
  return parseDigest(applied?.digest ?? "", "an unpacked layer");
}
