/**
 * `nydus-tool status`: what is mounted, and how much of it was fetched.
 *
 * @module
 */
import { NydusError } from "../lib/base/error.ts";
import type { MountStatus } from "../lib/mount/mount-request.ts";
import { DEFAULT_RUN_ROOT, findMounts } from "../lib/mount/run-directory.ts";
import type { Arguments, Command } from "./command.ts";
import { formatBytes } from "./progress.ts";

export const status: Command = {
  name: "status",
  summary: "Show what is mounted, by which driver, and how much was fetched",
  operands: "",
  arity: [0, 0],
  flags: {
    address: { type: "string", value: "ADDRESS", help: "a status endpoint: host:port or unix:PATH" },
    "run-dir": { type: "string", value: "DIR", help: `where running mounts are found (${DEFAULT_RUN_ROOT})` },
    json: { type: "boolean", help: "as JSON" },
  },
  examples: [
    ["nydus-tool status", "the mounts of this machine"],
    ["nydus-tool status --address unix:/run/nydus/status.sock", "those of a snapshotter's status endpoint"],
  ],
  async run(args, { print }) {
    const mounts = await collect(args);
    if (args.boolean("json")) return print(JSON.stringify(mounts, undefined, 2));
    if (mounts.length === 0) return print("nothing is mounted");
    for (const mount of mounts) for (const line of described(mount)) print(line);
  },
};

async function collect(args: Arguments): Promise<readonly MountStatus[]> {
  const address = args.string("address");
  if (address === undefined) {
    return (await findMounts(args.string("run-dir") ?? DEFAULT_RUN_ROOT)).map((found) => found.status);
  }
  const unix = address.startsWith("unix:");
  const url = unix ? "http://status" : address.startsWith("http") ? address : `http://${address}`;
  try {
    const response = await fetch(`${url}/api/v1/mounts`, unix ? { unix: address.slice("unix:".length) } : {});
    return (await response.json()) as readonly MountStatus[];
  } catch (cause) {
    throw new NydusError("unavailable", `Cannot read status from "${address}": nobody answers`, { cause });
  }
}

function described(mount: MountStatus): string[] {
  const share = mount.imageBytes === 0 ? 100 : (mount.fetchedBytes / mount.imageBytes) * 100;
  const amount = `${formatBytes(mount.fetchedBytes)} of ${formatBytes(mount.imageBytes)}`;
  const trouble = [
    mount.state === "broken" ? "BROKEN" : "",
    mount.corruptChunks > 0 ? `${mount.corruptChunks} damaged chunks fetched again` : "",
    mount.uncachedChunks > 0 ? `${mount.uncachedChunks} chunks not cached` : "",
  ].filter((text) => text !== "");
  return [
    mount.mountpoint,
    `  image    ${mount.reference}`,
    `  driver   ${mount.driver}${mount.writable ? " + overlay" : ""} (${mount.driverReason})`,
    `  fetched  ${amount} (${share.toFixed(1)}%) in ${mount.requests} requests`,
    `  reads    ${mount.hits} from the cache, ${mount.misses} waited`,
    ...(trouble.length > 0 ? [`  trouble  ${trouble.join(", ")}`] : []),
  ];
}
