/**
 * The flags of `snapshotter serve`, and the one file that may hold them: ours, with the flags' names as keys, or an
 * existing configuration of nydus-snapshotter with the nydusd configuration that it names.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { isCode, NydusError, toNydusError } from "../lib/base/error.ts";
import type { Level } from "../lib/base/log.ts";
import { DEFAULT_ADDRESS } from "../lib/containerd/client.ts";
import { ROOTS_RUN_DIRECTORY } from "../lib/mount/default-directories.ts";
import { DRIVERS } from "../lib/mount/mount-request.ts";
import {
  type ForeignConfig,
  isNydusSnapshotterConfig,
  nydusdConfigPath,
  readNydusdConfig,
  readNydusSnapshotterConfig,
} from "../lib/snapshot/foreign-config.ts";
import { DEFAULT_SNAPSHOTTER_ADDRESS } from "../lib/snapshot/service.ts";
import { DEFAULT_ROOT } from "../lib/snapshot/snapshotter.ts";
import { Arguments, type Flag } from "./command.ts";
import { CREDENTIAL_FLAGS } from "./credentials.ts";
import { SOURCE_FLAGS } from "./registry-flags.ts";

export const LEVELS = ["debug", "info", "warn", "error"] as const satisfies readonly Level[];

export const SERVE_FLAGS: Readonly<Record<string, Flag>> = {
  config: {
    type: "string",
    value: "FILE",
    help: "TOML with these flags' names as keys, or nydus-snapshotter's own; flags win",
  },
  root: { type: "string", value: "DIR", help: `snapshots, metadata and cache (${DEFAULT_ROOT})` },
  address: { type: "string", value: "SOCKET", help: `listen here (${DEFAULT_SNAPSHOTTER_ADDRESS})` },
  "containerd-address": {
    type: "string",
    value: "SOCKET",
    help: `containerd's socket, used when first needed (${DEFAULT_ADDRESS})`,
  },
  status: { type: "string", value: "ADDRESS", help: "serve status and metrics: host:port or unix:PATH" },
  driver: { type: "string", value: "NAME", help: `${DRIVERS.join(", ")} (auto: the first that works)` },
  "cache-dir": { type: "string", value: "DIR", help: "where chunks are kept (cache below root)" },
  "cache-size": {
    type: "string",
    value: "SIZE",
    help: "keep at most so much there, such as 10G; the least recently used goes first (no limit)",
  },
  "cache-grace": {
    type: "string",
    value: "TIME",
    help: "keep cached data of removed images so long, such as 90s, 10m, 24h (10m)",
  },
  "run-dir": {
    type: "string",
    value: "DIR",
    help: `where running mounts are found (${ROOTS_RUN_DIRECTORY})`,
  },
  referrers: {
    type: "boolean",
    help: "start ordinary images through Nydus images that refer to them (whoever can push there can put one)",
  },
  ...SOURCE_FLAGS,
  ...CREDENTIAL_FLAGS,
  supervised: {
    type: "boolean",
    help: "something else starts this process again when it dies (for systemd it is known)",
  },
  "log-level": { type: "string", value: "LEVEL", help: `${LEVELS.join(", ")} (info)` },
};

type Value = string | boolean | readonly string[];
type Values = Readonly<Record<string, Value>>;

/** What was given of these flags, as a configuration file says it; the name of another file is left out. */
export function configText(args: Arguments, defaults: Values): string {
  const values = { ...defaults, ...givenValues(args) };
  const lines = Object.entries(values).flatMap(([name, value]) =>
    name === "config" ? [] : [`${name} = ${JSON.stringify(value)}\n`],
  );
  return lines.join("");
}

function givenValues(args: Arguments): Values {
  const given = Object.entries(SERVE_FLAGS).flatMap(([name, { type }]) => {
    const several = args.strings(name);
    const one = type === "boolean" ? args.boolean(name) || undefined : args.string(name);
    const value = several.length > 0 ? several : one;
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(given);
}

/** Flags from the file that `--config` names below those of the command line. */
export async function withConfig(
  args: Arguments,
): Promise<{ readonly args: Arguments; readonly warnings: readonly string[] }> {
  const path = args.string("config");
  if (path === undefined) return { args, warnings: [] };
  const parsed = parseToml(await readText(path), path);
  const { settings, warnings } = isNydusSnapshotterConfig(parsed)
    ? await foreignConfig(parsed, path)
    : { settings: checkedConfig(parsed, path), warnings: [] };
  return { args: new Arguments([], { ...settings, ...givenValues(args) }), warnings };
}

async function foreignConfig(parsed: object, path: string): Promise<ForeignConfig> {
  const own = readNydusSnapshotterConfig(parsed);
  const nydusd = nydusdConfigPath(parsed);
  const below = nydusd === undefined ? { settings: {}, warnings: [] } : await nydusdConfig(nydusd);
  return {
    settings: { ...below.settings, ...own.settings },
    warnings: [
      ...own.warnings.map((warning) => `${path}: ${warning}`),
      ...below.warnings.map((warning) => `${nydusd}: ${warning}`),
    ],
  };
}

/** It need not be there: nothing of it is needed to mount. */
async function nydusdConfig(path: string): Promise<ForeignConfig> {
  try {
    const text = await readText(path);
    const parsed: unknown = path.endsWith(".toml") ? parseToml(text, path) : JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null) return readNydusdConfig(parsed);
    return { settings: {}, warnings: ["is no object"] };
  } catch (error) {
    const state = isCode(error, "not_found") ? "does not exist" : "cannot be read as JSON or TOML";
    return { settings: {}, warnings: [state] };
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw toNydusError(error, `read "${path}"`);
  }
}

function bad(path: string, state: string): NydusError {
  return new NydusError("usage", `Cannot use "${path}": ${state}`);
}

function parseToml(text: string, path: string): object {
  try {
    return Bun.TOML.parse(text);
  } catch (error) {
    throw bad(path, `it is not TOML: ${error instanceof Error ? error.message : error}`);
  }
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

/** @throws usage for what is no flag, or has the wrong type: a typing error must not be silence */
function checkedConfig(parsed: object, path: string): Values {
  const entries = Object.entries(parsed).map(([key, value]: [string, unknown]): [string, Value] => {
    const flag = key === "config" ? undefined : SERVE_FLAGS[key];
    if (flag === undefined) throw bad(path, `there is no key "${key}"`);
    if (flag.type === "boolean" && typeof value === "boolean") return [key, value];
    if (flag.type === "string" && typeof value === "string")
      return [key, flag.multiple === true ? [value] : value];
    if (flag.multiple === true && isTexts(value)) return [key, value];
    throw bad(path, `"${key}" must be a ${flag.type}`);
  });
  return Object.fromEntries(entries);
}
