/** The snapshotter as a service of a node: put there, read by the programs it is meant for, and taken away again. */
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { startContainerd } from "./support/containerd.ts";
import { run, waitFor } from "./support/process.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.flatMap((entry) => (entry.isFile() ? [`${entry.parentPath}/${entry.name}`] : []));
}

interface Report {
  readonly changes: readonly { readonly path: string; readonly action: string }[];
}

async function actions(place: Workspace, ...words: string[]): Promise<string[]> {
  const report = JSON.parse((await place.tool(["snapshotter", ...words, "--json"])).stdout) as Report;
  return report.changes.map(({ action }) => action);
}

test("install puts a service that containerd and systemd understand, and uninstall takes it away", async () => {
  const place = await workspace();
  const node = place.path("node");
  let before = "";
  const install = ["install", "--prefix", node, "--address", place.path("s.sock"), "--cri"];
  const status = `unix:${place.path("status/s.sock")}`;
  const served = ["--root", place.path("snapshots"), "--run-dir", place.path("run"), "--status", status];
  await using containerd = await startContainerd({
    directory: place.path("c"),
    cri: true,
    async configure(file) {
      before = await readFile(file, "utf8");
      const words = [...install, ...served, "--containerd-config", file];
      // containerd's file lies outside the prefix: a link leads there, as administrators have them.
      await run("mkdir", ["-p", `${node}${file}`.replace(/\/[^/]*$/, "")]);
      await run("ln", ["-s", file, `${node}${file}`]);
      expect(await actions(place, ...words, "--dry-run")).toEqual(
        expect.arrayContaining(["create", "change"]),
      );
      expect(await readFile(file, "utf8")).toBe(before);
      expect(await actions(place, ...words)).toEqual(["create", "create", "create", "change", "create"]);
      expect(await actions(place, ...words)).toEqual(["keep", "keep", "keep", "keep", "keep"]);
    },
  });
  const file = place.path("c/config.toml");
  place.start("snapshotter", ["snapshotter", "serve", "--config", `${node}/etc/nydus-tool/config.toml`]);
  await waitFor("the snapshotter", async () => (await place.log("snapshotter")).includes("serving"));
  const plugins = await containerd.ctr(["plugins", "ls"]);
  expect(plugins.stdout).toMatch(/io\.containerd\.snapshotter\.v1\s+nydus\s.*ok/);
  const listed = await containerd.ctr(["snapshots", "--snapshotter", "nydus", "ls"]);
  expect(listed.stdout).toMatch(/^KEY/);
  const effective = (await run("containerd", ["--config", file, "config", "dump"])).stdout;
  expect(effective).toContain('snapshotter = "nydus"');
  expect((await stat(`${node}/usr/local/bin/nydus-tool`)).mode & 0o777).toBe(0o755);

  const unit = `${node}/etc/systemd/system/nydus-tool-snapshotter.service`;
  const judged = await run("systemd-analyze", ["verify", "--recursive-errors=no", `--root=${node}`, unit], {
    mayFail: true,
  });
  expect(judged.stderr).not.toMatch(/nydus-tool-snapshotter\.service:\d+/);
  expect(await readFile(unit, "utf8")).toMatch(/^KillMode=process$/m);

  const uninstall = ["uninstall", "--prefix", node, "--containerd-config", file];
  expect(await actions(place, ...uninstall)).toEqual(["change", "remove", "remove", "remove", "remove"]);
  expect(await readFile(file, "utf8")).toBe(before);
  expect((await filesBelow(node)).filter((path) => !path.endsWith("config.toml"))).toEqual([]);
  expect((await place.tool(["snapshotter", ...uninstall])).stdout).toContain("kept");
});

test("install and uninstall keep what somebody has changed, and uninstall refuses while images are there", async () => {
  const place = await workspace();
  const node = place.path("node");
  await place.tool(["snapshotter", "install", "--prefix", node, "--cache-size", "1G"]);
  const config = `${node}/etc/nydus-tool/config.toml`;
  expect(await readFile(config, "utf8")).toContain('cache-size = "1G"');
  await writeFile(config, 'cache-size = "2G"\n');
  await place.tool(["snapshotter", "install", "--prefix", node, "--cache-size", "3G"]);
  expect(await readFile(config, "utf8")).toBe('cache-size = "2G"\n');
  const used = `${node}/var/lib/containerd/io.containerd.snapshotter.v1.nydus/snapshots/1`;
  await run("mkdir", ["-p", used]);
  const refused = await place.tool(["snapshotter", "uninstall", "--prefix", node], { mayFail: true });
  expect(refused.code).toBe(17);
  expect(refused.stderr).toMatch(
    /^nydus-tool: Cannot uninstall the snapshotter: containerd has 1 snapshots in /,
  );
  await place.tool(["snapshotter", "uninstall", "--prefix", node, "--force"]);
  // containerd's file had nothing else in it.
  expect(await filesBelow(node)).toEqual([config]);
});
