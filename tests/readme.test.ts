/**
 * README's "Use", as it stands there: each command line is run, on a registry, containerd and directories of this test.
 */
import { mkdir, readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { startContainerd } from "./support/containerd.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { waitFor } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

/** The lines of the first block behind a heading, without comments. */
async function blockUnder(heading: string): Promise<string[]> {
  const text = await readFile("README.md", "utf8");
  const [, block = ""] = new RegExp(`^## ${heading}\\n+\`\`\`sh\\n([^\`]*)\`\`\``, "m").exec(text) ?? [];
  return block.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

/** An image that says something and ends. */
async function pushApplication(place: Workspace, host: string): Promise<void> {
  const directories = ["proc/", "sys/", "dev/", "etc/"].map(
    (path) => ({ path, type: "dir", mode: 0o755 }) as const,
  );
  const layers = [await tarOfMachine(await shellFiles()), tarOf(directories)];
  const config = { Cmd: ["/bin/sh", "-c", "echo it runs"], Env: ["PATH=/usr/bin:/bin"] };
  await writeLayout(place.path("source"), layers, { config });
  for (const tag of ["1", "2"])
    await place.tool(["pull", `oci:${place.path("source")}:t`, `${host}/app:${tag}`]);
}

test("every line of README's Use does what it says", async () => {
  const place = await workspace();
  const { host } = await startEmbeddedRegistry(place);
  await pushApplication(place, host);
  const socket = place.path("s.sock");
  const containerd = await startContainerd({
    directory: place.path("c"),
    snapshotters: { nydus: socket },
  });
  place.defer(() => containerd[Symbol.asyncDispose]());
  const snapshotter = place.start("snapshotter", [
    ...["snapshotter", "serve", "--root", place.path("snapshots"), "--address", socket],
    ...["--containerd-address", containerd.address, "--run-dir", place.path("serve-run")],
  ]);
  const serving = async () => (await place.log("snapshotter")).includes("serving");
  await waitFor("the snapshotter", serving, { service: snapshotter });
  await mkdir(place.path("mnt"));

  /** Where this test's own places differ from a node's. */
  const flags: Readonly<Record<string, readonly string[]>> = {
    mount: ["--run-dir", place.path("run"), "--cache-dir", place.path("cache")],
    umount: ["--run-dir", place.path("run")],
    status: ["--run-dir", place.path("run")],
    pull: ["--containerd-address", containerd.address],
  };
  const lines = await blockUnder("Use");
  expect(lines.length).toBeGreaterThan(5);
  const printed = new Map<string, string>();
  for (const line of lines) {
    const said = line.replaceAll("registry.example", host).replaceAll("/mnt/app", place.path("mnt"));
    const [program, verb = "", ...rest] = said.split(" ");
    const { stdout } =
      program === "ctr"
        ? await containerd.ctr([verb, ...rest])
        : await place.tool([verb, ...(flags[verb] ?? []), ...rest]);
    printed.set(line, stdout);
  }
  const outputOf = (start: string): string =>
    [...printed].find(([line]) => line.startsWith(start))?.[1] ?? "";
  expect(outputOf("nydus-tool convert ")).toContain(`${host}/app:1-nydus is ready`);
  expect(outputOf("nydus-tool status")).toContain(place.path("mnt"));
  expect(outputOf("ctr run")).toBe("it runs\n");
  expect(place.mounts().filter((path) => path === place.path("mnt"))).toEqual([]);
});
