/**
 * Flags and operands of verbs that look into an image: where it is, and where a bootstrap file's blobs are.
 *
 * @module
 */
import { type ImageLocation, isFile } from "../lib/image/location.ts";
import { adoptForNow } from "../lib/layers/adopt.ts";
import { parsePlatform } from "../lib/oci/platform.ts";
import type { Arguments, Context, Flag } from "./command.ts";
import { CONTAINERD_FLAGS, REGISTRY_FLAGS, registryAccess } from "./registry-flags.ts";

/** Of verbs that need no file data. */
export const IMAGE_FLAGS = {
  platform: { type: "string", value: "OS/ARCH", help: "which image of an index (this machine's)" },
  ...REGISTRY_FLAGS,
  ...CONTAINERD_FLAGS,
} as const satisfies Record<string, Flag>;

export const ALLOW_UNVERIFIED_FLAG = {
  type: "boolean",
  help: "read external blobs that neither their name nor checksums vouch for",
} as const satisfies Flag;

/** Of verbs that read file data too. */
export const DATA_FLAGS = {
  blobs: { type: "string", value: "DIR", help: "for a bootstrap file: a directory of blobs" },
  backend: { type: "string", value: "REPOSITORY", help: "for a bootstrap file: the repository of its blobs" },
  "allow-unverified": ALLOW_UNVERIFIED_FLAG,
  ...IMAGE_FLAGS,
} as const satisfies Record<string, Flag>;

/** The image that operand `index` names. */
export function imageLocation(args: Arguments, index: number, context: Context): ImageLocation {
  const { signal } = context;
  const platform = args.string("platform");
  const blobs = args.string("blobs");
  const backend = args.string("backend");
  return {
    location: args.operand(index),
    ...registryAccess(args),
    signal,
    adopt: (store, image) => adoptForNow(store, image, { progress: context.progress(), signal }),
    ...(args.boolean("allow-unverified") ? { allowUnverified: true } : {}),
    ...(platform === undefined ? {} : { platform: parsePlatform(platform) }),
    ...(blobs === undefined ? {} : { blobs }),
    ...(backend === undefined ? {} : { backend }),
  };
}

/** The same where operands are of several kinds: flags for bootstrap files do not count for others. */
export function oneLocationOfSeveral(args: Arguments, index: number, context: Context): ImageLocation {
  const { blobs, backend, ...location } = imageLocation(args, index, context);
  if (!isFile(location.location)) return location;
  return { ...location, ...(blobs === undefined ? {} : { blobs }), ...(backend && { backend }) };
}
