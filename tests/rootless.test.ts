/** The built program as an ordinary user runs it: no root, no EROFS, fusermount3 of libfuse3. */
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { writeExpected } from "./support/check-tree.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { type UserSpace, userSpace } from "./support/other-user.ts";
import { killOne, noneServes, processesThat } from "./support/readers.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const NO_DIFFERENCES = /, 0 differences$/;

function withoutTrusted(xattrs: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(xattrs).filter(([name]) => !name.startsWith("trusted.")));
}

describe("without root", () => {
  let place: Workspace;
  let space: UserSpace;
  let image: string;
  let mountpoint: string;

  beforeAll(async () => {
    place = await openWorkspace();
    const made = makeImage(601);
    // Attributes that the kernel shows to nobody but root.
    const seen = made.tree.map((entry) => ({ ...entry, xattrs: withoutTrusted(entry.xattrs) }));
    await writeExpected(place.path("tree.jsonl"), seen);
    await writeLayout(place.path("source"), made.layers.map(tarOf));
    await place.tool(["convert", `oci:${place.path("source")}:t`, `oci:${place.path("nydus")}:n`]);
    space = await userSpace(place);
    image = `oci:${place.path("nydus")}:n`;
    mountpoint = `${space.home("nobody")}/mnt`;
    await space.run("nobody", ["mkdir", mountpoint]);
  });
  afterAll(() => place[Symbol.asyncDispose]());

  const mount = async (...flags: readonly string[]): Promise<Record<string, unknown>> => {
    const { stdout } = await space.tool("nobody", [
      "mount",
      "--detach",
      "--json",
      ...flags,
      image,
      mountpoint,
    ]);
    // A test that fails is not to be in the way of the next.
    onTestFinished(async () => {
      await space.tool("nobody", ["umount", "--force", mountpoint], { mayFail: true });
      await noneServes(place);
    });
    return JSON.parse(stdout) as Record<string, unknown>;
  };

  const umountAll = async (): Promise<void> => {
    await space.tool("nobody", ["umount", mountpoint]);
    await noneServes(place);
    expect(await space.mounts()).toEqual([]);
    expect(await readdir(`${space.home("nobody")}/nydus-tool`)).toEqual([]);
  };

  test("mount shows the whole tree to its user, by driver fuse, and umount leaves nothing but the cache", async () => {
    const report = await mount();
    expect(report).toMatchObject({ driver: "fuse", driverReason: expect.stringContaining("only root") });
    expect(await space.checkTree("nobody", place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    const { stdout } = await space.tool("nobody", ["status", "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({ mounts: [{ mountpoint, driver: "fuse" }], broken: [] });
    await umountAll();
    const kept = await stat(`${space.home("nobody")}/.cache/nydus-tool`);
    expect([kept.uid, kept.mode & 0o777]).toEqual([65_534, 0o700]);
  });

  test("nobody else can read a user's mount, nor end it, not even root", async () => {
    await mount();
    await space.run("root", ["chmod", "755", space.home("nobody")]);
    for (const other of ["daemon", "root"] as const) {
      const { code, stderr } = await space.run(other, ["ls", mountpoint], { mayFail: true });
      expect([code, stderr]).toEqual([2, expect.stringMatching(/Permission denied/)]);
    }
    const ended = await space.tool("daemon", ["umount", mountpoint], { mayFail: true });
    expect(ended.code).not.toBe(0);
    expect(ended.stderr).toMatch(/^nydus-tool: Cannot unmount .*\n$/);
    await space.run("root", ["chmod", "700", space.home("nobody")]);
    expect(await space.checkTree("nobody", place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    await umountAll();
  });

  test("each process of a user's mount may be killed in turn", async () => {
    await mount();
    for (const which of ["server", "controller", "server"] as const) {
      await killOne(place, which);
      expect(await space.checkTree("nobody", place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    }
    await umountAll();
  });

  test("when every process was killed, umount and a new mount tidy up", async () => {
    await mount();
    const all = await Promise.all([processesThat(place, "server"), processesThat(place, "controller")]);
    // Stopped first: neither may start the other again in between.
    for (const pid of all.flat()) process.kill(pid, "SIGSTOP");
    for (const pid of all.flat()) process.kill(pid, "SIGKILL");
    await noneServes(place);
    const { stdout } = await space.tool("nobody", ["status", "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({ mounts: [], broken: [{ mountpoints: [mountpoint] }] });
    await mount();
    expect(await space.checkTree("nobody", place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    await umountAll();
  });

  test("a mount in use is not ended, but with --force", async () => {
    await mount();
    const script = `cd ${mountpoint} && "$0" umount "$@" ${mountpoint}`;
    const tool = place.path("bin/nydus-tool");
    const env = { HOME: space.home("nobody"), XDG_RUNTIME_DIR: space.home("nobody") };
    const refused = await space.run("nobody", ["sh", "-c", script, tool], { env, mayFail: true });
    expect([refused.code, refused.stderr]).toEqual([17, expect.stringContaining("it is in use")]);
    // From inside, as the shell stays there: whatever it gets from then on, it is no data.
    const used = `${script} || exit; while said=$(cat data/prose-1 2>&1 >/dev/null); do sleep 0.05; done; echo "$said"`;
    const { stdout } = await space.run("nobody", ["sh", "-c", used, tool, "--force"], { env });
    expect(stdout).toMatch(/not connected|abort|Input\/output error/);
    await noneServes(place);
    expect(await space.mounts()).toEqual([]);
  });

  test("--record writes down what was read, and --trace takes it", async () => {
    const trace = `${space.home("nobody")}/start.trace`;
    await mount("--record", trace);
    await space.run("nobody", ["cat", `${mountpoint}/data/prose-1`]);
    await umountAll();
    expect((await readFile(trace, "utf8")).length).toBeGreaterThan(0);
    await mount("--trace", trace);
    await umountAll();
  });

  test.each([
    [
      ["--driver", "erofs"],
      13,
      /^nydus-tool: Cannot mount ".*" with driver erofs: it needs root; --driver fuse does not\n$/,
    ],
    [["--writable", "/tmp"], 13, /^nydus-tool: Cannot mount ".*" writable: the overlay on top needs root\n$/],
  ])("%j is refused in one line", async (flags, code, line) => {
    const output = await space.tool("nobody", ["mount", ...flags, image, mountpoint], { mayFail: true });
    expect([output.code, output.stderr]).toEqual([code, expect.stringMatching(line)]);
  });

  test("a directory that somebody else owns is refused in fusermount3's words", async () => {
    await mkdir(place.path("roots"));
    const output = await space.tool("nobody", ["mount", image, place.path("roots")], { mayFail: true });
    expect([output.code, output.stderr]).toEqual([
      13,
      expect.stringMatching(/Cannot mount FUSE on ".*\/roots": .*write access/),
    ]);
  });

  test("without fusermount3 the package is named", async () => {
    await writeFile(place.path("hidden"), "");
    const script = `mount --bind ${place.path("hidden")} "$(realpath "$(command -v fusermount3)")" && exec "$@"`;
    const words = [...["unshare", "--mount", "sh", "-c", script, "sh"], ...["setpriv", "--reuid=65534"]];
    const tool = [place.path("bin/nydus-tool"), "mount", image, mountpoint];
    const output = await space.run("root", [...words, "--regid=65534", "--clear-groups", "--", ...tool], {
      env: { HOME: space.home("nobody"), XDG_RUNTIME_DIR: space.home("nobody") },
      mayFail: true,
    });
    expect([output.code, output.stderr]).toEqual([14, expect.stringMatching(/install the package fuse3\n$/)]);
  });
});
