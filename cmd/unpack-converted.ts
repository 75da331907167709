/**
 * After a conversion into containerd: the image is unpacked as a pull would do it, so that containers can start from
 * what is there.
 *
 * @module
 */
import { isCode } from "../lib/base/error.ts";
import { ContainerdClient } from "../lib/containerd/client.ts";
import { openStore } from "../lib/image/open.ts";
import { pullImage, pullReference } from "../lib/snapshot/pull.ts";
import type { Arguments, Context } from "./command.ts";
import { containerdOptions, registryAccess, snapshotterName } from "./registry-flags.ts";

export const CONTAINERD = /^containerd:/;

/** @returns what to tell the user. An image that cannot be unpacked here (another platform's) is converted all the same. */
export async function unpackConverted(args: Arguments, context: Context): Promise<string> {
  const { env, log, signal } = context;
  const location = args.operand(1);
  const snapshotter = snapshotterName(args, env);
  await using client = new ContainerdClient(containerdOptions(args, env));
  const { store } = await openStore(location, { ...registryAccess(args), signal });
  await using _store = store;
  const reference = pullReference(location);
  try {
    const { image } = await pullImage({ store, reference, client, snapshotter, inPlace: true, log, signal });
    return `ready to run: ctr run --snapshotter ${snapshotter} ${image} NAME`;
  } catch (error) {
    if (isCode(error, "cancelled")) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    return `not unpacked: ${reason}`;
  }
}
