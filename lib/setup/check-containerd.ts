/**
 * Whether containerd is there, knows the snapshotter, and is configured so that pulls can be lazy.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { connect } from "node:net";
import { promisify } from "node:util";
import { isCode } from "../base/error.ts";
import { ContainerdClient, DEFAULT_NAMESPACE } from "../containerd/client.ts";
import { Version as VersionService } from "../containerd/gen/version_pb.ts";
import { SnapshotsClient } from "../containerd/snapshots.ts";
import { atLeast, parseVersion, unpackers, type Version, valueAt } from "./containerd-settings.ts";
import { type Finding, problem, stateOf, warning, well } from "./finding.ts";
import { parse } from "./toml-lines.ts";

const run = promisify(execFile);

export interface ContainerdPlaces {
  /** containerd's socket. */
  readonly containerd: string;
  readonly containerdConfig: string;
  /** The snapshotter's socket. */
  readonly address: string;
}

const INSTALL = "nydus-tool snapshotter install";

export async function checkContainerd(places: ContainerdPlaces): Promise<Finding[]> {
  const serving = await checkServing(places.address);
  await using client = new ContainerdClient({ address: places.containerd, namespace: DEFAULT_NAMESPACE });
  let text: string;
  try {
    text = (await client.call("ask", () => client.service(VersionService).version({}))).version;
  } catch (error) {
    return [
      serving,
      problem(
        "containerd",
        `${places.containerd}: ${stateOf(error)}`,
        "systemctl start containerd, or say --containerd-address",
      ),
    ];
  }
  const version = parseVersion(text);
  const config = await effectiveConfig(places.containerdConfig);
  if (typeof config === "string") return [serving, versionFinding(text, version), notRead(places, config)];
  const name = nameOf(config, places.address);
  return [
    serving,
    versionFinding(text, version),
    ...(name === undefined
      ? [
          problem(
            "proxy plugin",
            `${places.containerdConfig} does not name ${places.address}`,
            `${INSTALL}, and restart containerd`,
          ),
        ]
      : [await checkLoaded(client, name), ...checkTransfer(config, name, version), checkCri(config, name)]),
  ];
}

async function checkServing(address: string): Promise<Finding> {
  const answers = await new Promise<boolean>((resolve) => {
    const socket = connect(address, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
  return answers
    ? well("snapshotter", `listens on ${address}`)
    : problem(
        "snapshotter",
        `nobody listens on ${address}`,
        `systemctl start nydus-tool-snapshotter, or ${INSTALL} --now`,
      );
}

function versionFinding(text: string, version: Version | undefined): Finding {
  if (!atLeast(version, 1, 6))
    return problem("containerd", `version ${text}`, "install containerd 1.6 or newer");
  if (!atLeast(version, 1, 7))
    return warning(
      "containerd",
      `version ${text}: "ctr image pull" fetches whole images`,
      'pull with "nydus-tool pull", nerdctl or Kubernetes',
    );
  return well("containerd", `version ${text}`);
}

/** With everything that is imported. A text says why it is not known. */
async function effectiveConfig(path: string): Promise<Record<string, unknown> | string> {
  try {
    return parse((await run("containerd", ["--config", path, "config", "dump"])).stdout);
  } catch (error) {
    return error instanceof Error && "stderr" in error
      ? String(error.stderr).trim() || stateOf(error)
      : stateOf(error);
  }
}

function notRead({ containerdConfig }: ContainerdPlaces, state: string): Finding {
  const last = state.split("\n").at(-1) ?? "";
  return problem(
    "configuration",
    `${containerdConfig}: ${last}`,
    "correct the file, or say --containerd-config",
  );
}

function nameOf(config: Record<string, unknown>, address: string): string | undefined {
  const proxies = valueAt(config, ["proxy_plugins"]);
  if (typeof proxies !== "object" || proxies === null) return undefined;
  return Object.keys(proxies).find(
    (name) =>
      valueAt(proxies, [name, "type"]) === "snapshot" &&
      String(valueAt(proxies, [name, "address"])).replace(/^unix:\/\//, "") === address,
  );
}

/**
 * Tried with an empty view, because containerd answers a list of nothing by itself. The running containerd may have read
 * another configuration than the one that is on disk now.
 */
async function checkLoaded(client: ContainerdClient, name: string): Promise<Finding> {
  const snapshots = new SnapshotsClient(client, name);
  const key = `nydus-doctor-${process.pid}-${Date.now()}`;
  try {
    await snapshots.view(key, "");
    await snapshots.remove(key);
    return well("proxy plugin", `containerd makes snapshots with "${name}"`);
  } catch (error) {
    if (isCode(error, "unavailable"))
      return problem("proxy plugin", `"${name}" does not answer containerd`, "start the snapshotter");
    return problem(
      "proxy plugin",
      `"${name}": ${stateOf(error)}`,
      "systemctl restart containerd: it has read an older configuration",
    );
  }
}

function checkTransfer(
  config: Record<string, unknown>,
  name: string,
  version: Version | undefined,
): Finding[] {
  if (!atLeast(version, 2, 0)) return [];
  if (unpackers(config)?.includes(name) === true) return [well("transfer service", `unpacks with "${name}"`)];
  return [
    warning(
      "transfer service",
      `does not unpack with "${name}": ctr and nerdctl download whole images`,
      `${INSTALL}, and restart containerd`,
    ),
  ];
}

const CRI = [
  ["plugins", "io.containerd.cri.v1.images"],
  ["plugins", "io.containerd.grpc.v1.cri", "containerd"],
] as const;

function checkCri(config: Record<string, unknown>, name: string): Finding {
  const path = CRI.find((candidate) => valueAt(config, candidate) !== undefined);
  if (path === undefined) return well("Kubernetes", "this containerd has no CRI plugin");
  if (valueAt(config, [...path, "disable_snapshot_annotations"]) === true)
    return problem(
      "Kubernetes",
      "the CRI plugin gives no annotations to snapshotters (disable_snapshot_annotations = true)",
      `set it to false in ${path.join(".")}, or ${INSTALL} --cri, and restart containerd`,
    );
  const used = String(valueAt(config, [...path, "snapshotter"]));
  if (used === name) return well("Kubernetes", `containers use "${name}"`);
  return warning(
    "Kubernetes",
    `containers use "${used}" unless their runtime class says otherwise`,
    `${INSTALL} --cri, and restart containerd, if they should be lazy`,
  );
}
