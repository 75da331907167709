/**
 * Mounts that show other owners than the files have, for containers in user namespaces (mount_setattr(2),
 * MOUNT_ATTR_IDMAP). Nothing is copied or changed.
 *
 * @module
 */
import { closeSync, openSync, readlinkSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { close, errnoName, mapIds, moveMount, openTree } from "../../ffi/libc.ts";
import { NydusError, toNydusError } from "../base/error.ts";

/** As labels have them: "container:host:count", several with commas. */
export interface IdMapping {
  readonly uidMapping: string;
  readonly gidMapping: string;
}

/** @throws unsupported where the kernel or the file system cannot */
export async function mountMapped(source: string, target: string, mapping: IdMapping): Promise<void> {
  const namespace = await openUserNamespace(mapping);
  try {
    const step = (result: number): number => {
      if (result >= 0) return result;
      throw new NydusError(
        "unsupported",
        `Cannot map the owners of "${source}": ${errnoName(-result)}; the kernel or its file system has no such mounts`,
      );
    };
    const tree = step(openTree(source));
    try {
      step(mapIds(tree, namespace));
      step(moveMount(tree, target));
    } finally {
      close(tree);
    }
  } finally {
    closeSync(namespace);
  }
}

const START_TIMEOUT_MS = 10_000;
const POLL_MS = 2;

/** Namespaces are made for processes, so a short one (of util-linux) has to live for a moment. @returns a descriptor */
async function openUserNamespace({ uidMapping, gidMapping }: IdMapping): Promise<number> {
  const child = Bun.spawn(["unshare", "--user", "cat"], {
    stdin: "pipe",
    stdout: "ignore",
    stderr: "ignore",
  });
  const of = (name: string): string => `/proc/${child.pid}/${name}`;
  try {
    await isOutside(of("ns/user"), child);
    writeFileSync(of("uid_map"), mapText(uidMapping));
    writeFileSync(of("gid_map"), mapText(gidMapping));
    return openSync(of("ns/user"), "r");
  } catch (error) {
    throw toNydusError(error, "make a user namespace");
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
}

async function isOutside(link: string, child: Bun.Subprocess): Promise<void> {
  const ours = readlinkSync("/proc/self/ns/user");
  for (let waited = 0; waited < START_TIMEOUT_MS; waited += POLL_MS) {
    if (child.exitCode !== null) break;
    if (readlinkSync(link) !== ours) return;
    await sleep(POLL_MS);
  }
  throw new NydusError("unsupported", "Cannot make a user namespace: the system does not allow it");
}

/** user_namespaces(7): one extent a line. */
function mapText(mapping: string): string {
  return mapping
    .split(",")
    .map((extent) => `${extent.replaceAll(":", " ")}\n`)
    .join("");
}
