/**
 * Debian's containerd, private to one test: its own root, state and sockets under one directory, with the proxy
 * snapshotters that the test asks for. Stopping it ends its containers and shims and leaves no mount.
 *
 * Unix socket paths end at 107 bytes: keep the directory short.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { endLostContainers } from "./lost-containers.ts";
import { umountAllUnder } from "./mounts.ts";
import { type Output, type RunOptions, run, type Service, startService, waitFor } from "./process.ts";
import type { Workspace } from "./workspace.ts";

export interface ContainerdOptions {
  /** Made if missing; everything below it is removed at the end. */
  readonly directory: string;
  /** Proxy snapshotters: name to socket. They need not listen yet. */
  readonly snapshotters?: Readonly<Record<string, string>>;
  /** Lines added to config.toml. */
  readonly config?: string;
  /** Serve Kubernetes' container runtime interface too; configured by `config`. */
  readonly cri?: boolean;
  /** Change the configuration once it is written, before containerd reads it. */
  readonly configure?: (file: string) => Promise<void>;
}

export interface Containerd extends AsyncDisposable {
  readonly directory: string;
  /** Path of the gRPC socket. */
  readonly address: string;
  readonly log: string;
  /** Run `ctr` against this containerd. */
  ctr(args: readonly string[], options?: RunOptions): Promise<Output>;
  /** End every container, task and snapshot that uses an image, in all namespaces. */
  removeContainers(): Promise<void>;
  /** Stop the daemon only: containers go on, as on a node. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
}

/** Plugins that either need devices this test has not, or only slow the start down. */
const CRI = "io.containerd.grpc.v1.cri";
const DISABLED = [
  CRI,
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
];

function configText(options: ContainerdOptions, address: string): string {
  const proxies = Object.entries(options.snapshotters ?? {}).map(
    ([name, socket]) => `[proxy_plugins.${name}]\n  type = "snapshot"\n  address = ${JSON.stringify(socket)}`,
  );
  return [
    "version = 2",
    `root = ${JSON.stringify(`${options.directory}/root`)}`,
    `state = ${JSON.stringify(`${options.directory}/state`)}`,
    `disabled_plugins = ${JSON.stringify(DISABLED.filter((name) => name !== CRI || options.cri !== true))}`,
    `[grpc]\n  address = ${JSON.stringify(address)}`,
    `[ttrpc]\n  address = ${JSON.stringify(`${address}.t`)}`,
    ...proxies,
    options.config ?? "",
    "",
  ].join("\n");
}

export async function startContainerd(options: ContainerdOptions): Promise<Containerd> {
  const { directory } = options;
  const address = `${directory}/c.sock`;
  const log = `${directory}/containerd.log`;
  await mkdir(directory, { recursive: true });
  await writeFile(`${directory}/config.toml`, configText(options, address));
  await options.configure?.(`${directory}/config.toml`);

  let service: Service | undefined;
  const ctr = (args: readonly string[], runOptions?: RunOptions): Promise<Output> =>
    run("ctr", ["--address", address, ...args], runOptions);
  const start = async (): Promise<void> => {
    service = startService("containerd", ["--config", `${directory}/config.toml`], { log });
    const serving = async (): Promise<boolean> =>
      existsSync(address) &&
      (await ctr(["--connect-timeout", "1s", "version"], { mayFail: true })).code === 0;
    await waitFor(`containerd (see ${log})`, serving, { service });
  };
  const removeContainers = async (): Promise<void> => {
    for (const namespace of lines(await ctr(["namespace", "ls", "-q"]))) await emptyNamespace(ctr, namespace);
  };
  await start();
  return {
    directory,
    address,
    log,
    ctr,
    start,
    removeContainers,
    stop: async (signal) => service?.stop(signal),
    async [Symbol.asyncDispose]() {
      if (service?.exitCode() === undefined) await removeContainers().catch(() => {});
      await service?.stop();
      await endShims(address);
      await endLostContainers(directory);
      await umountAllUnder(directory);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** In `c` of a workspace, on the snapshotter that it starts. */
export function startNodeContainerd(
  place: Workspace,
  options: Omit<ContainerdOptions, "directory" | "snapshotters"> = {},
): Promise<Containerd> {
  const snapshotters = { nydus: place.path("s.sock") };
  return startContainerd({ directory: place.path("c"), snapshotters, ...options });
}

function lines(output: Output): string[] {
  return output.stdout.split("\n").filter((line) => line !== "");
}

async function emptyNamespace(ctr: Containerd["ctr"], namespace: string): Promise<void> {
  const inside = (args: readonly string[]): Promise<Output> =>
    ctr(["--namespace", namespace, ...args], { mayFail: true });
  for (const task of lines(await inside(["task", "ls", "-q"]))) {
    await inside(["task", "rm", "--force", task]);
  }
  for (const container of lines(await inside(["container", "ls", "-q"]))) {
    await inside(["container", "rm", container]);
  }
}

/** A shim outlives its containerd on purpose; those of this one name its socket on their command line. */
async function endShims(address: string): Promise<void> {
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (!words[0]?.includes("containerd-shim") || !words.includes(address)) continue;
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {} // it ended by itself
  }
}
