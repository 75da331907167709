/**
 * `nydus-tool snapshotter install` and `uninstall`: the snapshotter on a node, as a systemd service that containerd
 * knows, and off it again.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { isCode, NydusError, toNydusError } from "../lib/base/error.ts";
import { entryPoint } from "../lib/base/self.ts";
import { parseVersion, type Version } from "../lib/setup/containerd-settings.ts";
import type { FileChange } from "../lib/setup/file-change.ts";
import { planInstall, planUninstall } from "../lib/setup/install.ts";
import { UNIT } from "../lib/setup/systemd-unit.ts";
import { DEFAULT_SNAPSHOTTER_ADDRESS } from "../lib/snapshot/service.ts";
import { DEFAULT_ROOT } from "../lib/snapshot/snapshotter.ts";
import type { Arguments, Command, Context, Flag } from "./command.ts";
import { configText, SERVE_FLAGS, withConfig } from "./snapshotter-config.ts";

const run = promisify(execFile);

const BINARY = "/usr/local/bin/nydus-tool";
const CONFIG = "/etc/nydus-tool/config.toml";
export const CONTAINERD_CONFIG = "/etc/containerd/config.toml";
const STATUS = "unix:/run/nydus-tool/status.sock";

const PLACE_FLAGS = {
  "containerd-config": {
    type: "string",
    value: "FILE",
    help: `containerd's configuration (${CONTAINERD_CONFIG})`,
  },
  prefix: {
    type: "string",
    value: "DIR",
    help: "a root directory that is not this machine's: an image that is built",
  },
  now: { type: "boolean", help: "start (or stop) the service, and restart containerd, right away" },
  "dry-run": { type: "boolean", help: "say what would be done, and do nothing" },
  json: { type: "boolean", help: "say it as JSON" },
} as const satisfies Record<string, Flag>;

const { config: _config, supervised: _supervised, ...KEPT_FLAGS } = SERVE_FLAGS;

export const snapshotterInstall: Command = {
  name: "snapshotter install",
  summary: "Make the snapshotter a service of this node, and tell containerd of it",
  operands: "",
  arity: [0, 0],
  flags: {
    ...PLACE_FLAGS,
    cri: { type: "boolean", help: "let Kubernetes' containers use it unless they say otherwise" },
    name: { type: "string", value: "NAME", help: "the snapshotter's name in containerd (nydus)" },
    "containerd-version": {
      type: "string",
      value: "VERSION",
      help: "write for this version (that of the containerd program here)",
    },
    config: {
      type: "string",
      value: "FILE",
      help: `serve with this file, such as nydus-snapshotter's (${CONFIG}, written with the flags below)`,
    },
    ...KEPT_FLAGS,
  },
  examples: [
    ["nydus-tool snapshotter install --dry-run", "what it would do"],
    ["nydus-tool snapshotter install --cri --now", "on a node of a Kubernetes cluster"],
    [
      "nydus-tool snapshotter install --config /etc/nydus/config.toml",
      "in the place of nydus-snapshotter, with its own configuration",
    ],
  ],
  async run(args, context) {
    const prefix = args.string("prefix") ?? "/";
    const own = args.string("config");
    const { args: served, warnings } = await withConfig(args);
    for (const warning of warnings) context.log.warn(warning);
    const settings = {
      name: args.string("name") ?? "nydus",
      address: served.string("address") ?? DEFAULT_SNAPSHOTTER_ADDRESS,
      root: served.string("root") ?? DEFAULT_ROOT,
      cri: args.boolean("cri"),
      version: await containerdVersion(args),
    };
    const places = {
      prefix,
      binary: BINARY,
      config: own === undefined ? CONFIG : resolve(own),
      containerdConfig: args.string("containerd-config") ?? CONTAINERD_CONFIG,
    };
    const changes = planInstall({
      places,
      settings,
      program: await thisProgram(),
      ...(own === undefined ? { config: configText(args, { status: STATUS }) } : {}),
    });
    await carryOut(changes, args, context, [
      ["systemctl", "daemon-reload"],
      ["systemctl", "enable", "--now", UNIT],
      ["systemctl", "restart", "containerd"],
    ]);
  },
};

export const snapshotterUninstall: Command = {
  name: "snapshotter uninstall",
  summary: "Take away what install has put on this node; images' data stays",
  operands: "",
  arity: [0, 0],
  flags: {
    ...PLACE_FLAGS,
    root: { type: "string", value: "DIR", help: `where its snapshots are (${DEFAULT_ROOT})` },
    force: { type: "boolean", help: "even while containerd has images or containers on it" },
  },
  examples: [
    ["nydus-tool snapshotter uninstall --dry-run", "what it would do"],
    ["nydus-tool snapshotter uninstall --now", "and stop the service"],
  ],
  async run(args, context) {
    const prefix = args.string("prefix") ?? "/";
    const root = join(prefix, args.string("root") ?? DEFAULT_ROOT);
    if (!args.boolean("force")) refuseWhileUsed(root);
    const changes = planUninstall({
      prefix,
      containerdConfig: args.string("containerd-config") ?? CONTAINERD_CONFIG,
    });
    if (changes.length === 0) return context.print("nothing is installed");
    await carryOut(changes, args, context, [
      ["systemctl", "disable", "--now", UNIT],
      ["systemctl", "daemon-reload"],
      ["systemctl", "restart", "containerd"],
    ]);
    if (existsSync(root)) context.print(`kept     ${root}: remove it when its data is not wanted any more`);
  },
};

function refuseWhileUsed(root: string): void {
  const snapshots = join(root, "snapshots");
  const used = existsSync(snapshots) ? readdirSync(snapshots).length : 0;
  if (used === 0) return;
  throw new NydusError(
    "busy",
    `Cannot uninstall the snapshotter: containerd has ${used} snapshots in "${root}"; remove its containers and images first, or say --force`,
  );
}

/** @throws unsupported when run from source: there is no one file to put on the node */
async function thisProgram(): Promise<Uint8Array> {
  if (entryPoint().length > 0)
    throw new NydusError(
      "unsupported",
      "Cannot install the snapshotter: this is no built program; run scripts/build and its outcome",
    );
  try {
    return await readFile("/proc/self/exe");
  } catch (error) {
    throw toNydusError(error, "read this program");
  }
}

async function containerdVersion(args: Arguments): Promise<Version | undefined> {
  const given = args.string("containerd-version");
  const version = parseVersion(given ?? (await printedVersion()));
  if (given !== undefined && version === undefined)
    throw new NydusError("usage", `Cannot use --containerd-version "${given}": it is no version such as 1.7`);
  return version;
}

/** Empty where there is no containerd yet. */
export async function printedVersion(): Promise<string> {
  try {
    return (await run("containerd", ["--version"])).stdout;
  } catch {
    return "";
  }
}

const DONE = { create: "created", change: "changed", keep: "kept", remove: "removed" } as const;
const PLANNED = { create: "create", change: "change", keep: "keep", remove: "remove" } as const;

async function carryOut(
  changes: readonly FileChange[],
  args: Arguments,
  context: Context,
  commands: readonly (readonly [string, ...string[]])[],
): Promise<void> {
  const dry = args.boolean("dry-run");
  const now = args.boolean("now");
  const here = args.string("prefix") === undefined;
  if (now && !here)
    throw new NydusError("usage", "Cannot use --now with --prefix: its service does not run here");
  if (!dry && here && process.getuid?.() !== 0)
    throw new NydusError("denied", "Cannot change this node: it needs root");
  if (!dry) for (const change of changes) await change.apply();
  if (!dry && now) for (const [program, ...words] of commands) await execute(program, words);
  if (args.boolean("json")) {
    const report = changes.map(({ path, action, detail }) => ({ path, action, detail }));
    return context.print(JSON.stringify({ dryRun: dry, changes: report, commands }, undefined, 2));
  }
  const words = dry ? PLANNED : DONE;
  for (const { path, action, detail } of changes) {
    const several = detail?.includes("\n") === true || /^[-+] /.test(detail ?? "");
    context.print(
      `${words[action].padEnd(8)} ${path}${detail === undefined || several ? "" : `: ${detail}`}`,
    );
    if (several) for (const line of (detail ?? "").split("\n")) context.print(`         ${line}`);
  }
  if (now && !dry) return;
  if (!here || changes.every(({ action }) => action === "keep")) return;
  context.print(dry ? "then (with --now it would be done):" : "then (or say --now):");
  for (const command of commands) context.print(`  ${command.join(" ")}`);
}

async function execute(program: string, words: readonly string[]): Promise<void> {
  try {
    await run(program, [...words]);
  } catch (error) {
    if (isCode(error, "not_found")) throw error;
    const said = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : String(error);
    throw new NydusError("internal", `Cannot run "${[program, ...words].join(" ")}": ${said}`, {
      cause: error,
    });
  }
}
