/**
 * Containers that containerd lost. One that is killed while it creates a container may know nothing of it afterwards:
 * its shim ends, and its first process (`runc init`) waits for ever to be started, with the container's root mounted.
 * Only runc still knows it. So it is with containerd 1.6 and any snapshotter; on a node an administrator does this.
 *
 * @module
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./process.ts";

/** Where containerd's shims keep runc's state, a directory for each namespace. */
const STATE = "/run/containerd/runc";

interface RuncContainer {
  readonly id: string;
  readonly bundle: string;
}

/** Ends what runc still has of a containerd whose files lie below `directory`, and which has no container any more. */
export async function endLostContainers(directory: string): Promise<void> {
  for (const namespace of await readdir(STATE).catch(() => [])) {
    const runc = ["--root", join(STATE, namespace)];
    const { stdout } = await run("runc", [...runc, "list", "--format", "json"], { mayFail: true });
    const known = (JSON.parse(stdout || "null") ?? []) as RuncContainer[];
    for (const { id } of known.filter(({ bundle }) => bundle.startsWith(`${directory}/`)))
      await run("runc", [...runc, "delete", "--force", id], { mayFail: true });
  }
}
