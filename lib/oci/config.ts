/** Image configs. Spec: image-spec/config.md. @module */

import { type Digest, isDigest } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import type { Platform } from "./descriptor.ts";
import { parseJsonObject } from "./json.ts";
import { LAYER_LIMIT } from "./manifest.ts";

/** Configs grow with their history; none is near this. */
export const CONFIG_SIZE_LIMIT = 8 * 2 ** 20;

export interface History {
  readonly created?: string;
  readonly created_by?: string;
  readonly comment?: string;
  readonly author?: string;
  readonly empty_layer?: boolean;
}

/** How the container is run; only what this program reads is named. */
export interface RunConfig {
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly WorkingDir?: string;
  readonly User?: string;
  readonly [field: string]: unknown;
}

/** Fields that are not named here are kept as they came, so that a rewritten config loses nothing. */
export interface ImageConfig {
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
  readonly config?: RunConfig;
  readonly rootfs: { readonly type: "layers"; readonly diff_ids: readonly Digest[] };
  readonly history?: readonly History[];
  readonly [field: string]: unknown;
}

/** Of an image that was made from nothing: no layers yet, and one step. */
export function emptyConfig({ architecture, os, variant }: Platform, step: History): ImageConfig {
  return {
    architecture,
    os,
    ...(variant === undefined ? {} : { variant }),
    config: {},
    rootfs: { type: "layers", diff_ids: [] },
    history: [step],
  };
}

/** @throws corrupt */
export function parseConfig(bytes: Uint8Array, where: string): ImageConfig {
  if (bytes.byteLength > CONFIG_SIZE_LIMIT)
    throw corrupt(`Cannot read ${where}: it is larger than ${CONFIG_SIZE_LIMIT} bytes`);
  const json = parseJsonObject(bytes, where);
  const { architecture, os, rootfs, history, config, ...rest } = json;
  if (typeof architecture !== "string" || typeof os !== "string")
    throw corrupt(`Cannot read ${where}: it names no architecture and os`);
  if (history !== undefined && history !== null && !isListOfObjects(history))
    throw corrupt(`Cannot read ${where}: its history is not a list`);
  return {
    ...rest,
    architecture,
    os,
    ...(typeof config === "object" && config !== null ? { config: config as RunConfig } : {}),
    rootfs: { type: "layers", diff_ids: parseDiffIds(rootfs, where) },
    ...(isListOfObjects(history) ? { history: history as History[] } : {}),
  };
}

function isListOfObjects(value: unknown): value is object[] {
  return Array.isArray(value) && value.every((item) => typeof item === "object" && item !== null);
}

function parseDiffIds(rootfs: unknown, where: string): readonly Digest[] {
  const list =
    typeof rootfs === "object" && rootfs !== null ? (rootfs as Record<string, unknown>).diff_ids : undefined;
  // An image without layers may write null (Go's empty slice).
  const diffIds = list === null ? [] : list;
  if (!Array.isArray(diffIds)) throw corrupt(`Cannot read ${where}: it has no list of diff ids`);
  if (diffIds.length > LAYER_LIMIT)
    throw corrupt(`Cannot read ${where}: it has ${diffIds.length} diff ids, more than ${LAYER_LIMIT}`);
  return diffIds.map((id: unknown) => {
    if (typeof id === "string" && isDigest(id)) return id;
    throw corrupt(`Cannot read ${where}: a diff id is not sha256:<64 hex digits>`);
  });
}
