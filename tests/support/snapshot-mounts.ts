/** Makes the mounts that a snapshotter answers with, as containerd would, through the `mount` program. @module */

import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Mount } from "../../lib/containerd/snapshots.ts";
import { run } from "./process.ts";

/** Mount below `work`, let `use` look at it, unmount. */
export async function mounted<T>(
  work: string,
  mounts: readonly Mount[],
  use: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(work, "m-"));
  await mkdir(directory, { recursive: true });
  let made = 0;
  try {
    for (const mount of mounts) {
      await mountOne(mount, directory);
      made++;
    }
    return await use(directory);
  } finally {
    while (made-- > 0) await run("umount", [directory]);
    await rm(directory, { recursive: true, force: true });
  }
}

async function mountOne({ type, source, options }: Mount, directory: string): Promise<void> {
  if (type === "bind") {
    const access = options.includes("ro") ? "ro" : "rw";
    await run("mount", ["-o", `bind,${access}`, source, directory]);
    return;
  }
  // mount(2) takes one page of options: name the lower directories from where they are, as containerd does.
  const [, common = "/"] =
    /^(.*?\/snapshots)\//.exec(options.find((o) => o.startsWith("lowerdir="))?.slice(9) ?? "") ?? [];
  const short = options.map((option) => {
    if (!option.startsWith("lowerdir=")) return option;
    const paths = option.slice("lowerdir=".length).split(":");
    const relative = paths.map((path) =>
      path.startsWith(`${common}/`) ? path.slice(common.length + 1) : path,
    );
    return `lowerdir=${relative.join(":")}`;
  });
  await run("mount", ["-t", type, source, "-o", short.join(","), directory], { cwd: common });
}
