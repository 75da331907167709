/**
 * Damaged and hostile images, as a user of the built program meets them: one line that names the thing and its state, an
 * exit code or an errno that says which kind of failure it is, nothing half-written under a final name, and no wrong byte
 * to a reader.
 */
import { cp, mkdir, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MEANINGS } from "../lib/base/error.ts";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { expectFailure, expectNothingHalfWritten } from "./support/failures.ts";
import { expectedTree } from "./support/model.ts";
import { blobPath, type WrittenLayout, writeLayout } from "./support/oci-layout.ts";
import { type Output, run } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { smallModel, writeSmallImage } from "./support/small-image.ts";
import { type TarItem, tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace, workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "fuse"] as const;

async function flip(file: string, at: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  await writeFile(file, bytes);
}

async function halve(file: string): Promise<void> {
  await truncate(file, Math.floor((await readFile(file)).byteLength / 2));
}

describe("convert", () => {
  async function convertSpoilt(spoil: (layout: WrittenLayout) => Promise<unknown>): Promise<Output> {
    const place = await workspace();
    const layout = await writeSmallImage(place.path("source"));
    await spoil(layout);
    const target = place.path("target");
    const output = await place.tool(["convert", `oci:${layout.directory}:t`, `oci:${target}:n`], {
      mayFail: true,
    });
    await expectNothingHalfWritten(target);
    return output;
  }
  const layerOf = (layout: WrittenLayout): string => layout.layers[0]?.digest ?? "";

  test("convert refuses a truncated layer", async () => {
    let digest = "";
    const output = await convertSpoilt((layout) => {
      digest = layerOf(layout);
      return halve(blobPath(layout.directory, digest));
    });
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(digest);
  });

  test("convert refuses a layer with a flipped bit", async () => {
    let digest = "";
    const output = await convertSpoilt((layout) => {
      digest = layerOf(layout);
      return flip(blobPath(layout.directory, digest), 40_000);
    });
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(digest);
  });

  test("convert refuses a manifest with a flipped bit", async () => {
    let digest = "";
    const output = await convertSpoilt((layout) => {
      digest = layout.manifest.digest;
      return flip(blobPath(layout.directory, digest), 30);
    });
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(digest);
  });

  test("convert refuses a truncated manifest", async () => {
    const output = await convertSpoilt((layout) => halve(blobPath(layout.directory, layout.manifest.digest)));
    expectFailure(output, "corrupt");
  });

  test("convert says which blob is missing", async () => {
    let digest = "";
    const output = await convertSpoilt((layout) => {
      digest = layerOf(layout);
      return run("rm", [blobPath(layout.directory, digest)]);
    });
    expectFailure(output, "not_found");
    expect(output.stderr).toContain(digest);
  });

  const file = (path: string): TarItem => ({ path, type: "file", data: Buffer.from("data") });
  const link = (path: string, target: string): TarItem => ({ path, type: "symlink", target });
  const hostile: readonly (readonly [what: string, items: readonly TarItem[]])[] = [
    ["an entry that leaves its root", [file("../../escaped")]],
    ["an entry that leaves its root further inside", [file("a/b/../../../escaped")]],
    ["a hard link to a file outside", [{ path: "stolen", type: "hardlink", target: "../../etc/shadow" }]],
    ["a hard link to nothing", [{ path: "dangling", type: "hardlink", target: "not/there" }]],
    ["an absurd size", [{ ...file("huge"), claimedSize: 2 ** 53 - 512 }]],
    ["an absurd size in base 256", [{ ...file("huge"), claimedSize: 2 ** 52, dialect: "gnu" }]],
    ["a size larger than what follows", [{ ...file("large"), claimedSize: 1_000_000 }]],
    ["a name of 256 bytes", [file(`dir/${"n".repeat(256)}`)]],
  ];
  test.each(hostile)("convert refuses %s", async (_, items) => {
    const place = await workspace();
    await writeLayout(place.path("source"), [tarOf([file("innocent"), ...items])]);
    const words = ["convert", `oci:${place.path("source")}:t`, `oci:${place.path("target")}:n`];
    const output = await place.tool(words, { mayFail: true });
    expectFailure(output, "corrupt");
    await expectNothingHalfWritten(place.path("target"));
    expect(await readdir("/tmp")).not.toContain("escaped");
  });

  test("convert writes nothing through a symbolic link of the layer", async () => {
    const place = await workspace();
    const outside = place.path("outside");
    await mkdir(outside);
    await writeLayout(place.path("source"), [tarOf([link("door", outside), file("door/burglar")])]);
    await place.tool(["convert", `oci:${place.path("source")}:t`, `oci:${place.path("target")}:n`], {
      mayFail: true,
    });
    expect(await readdir(outside)).toEqual([]);
  });

  test("convert of an archive that is not one says so", async () => {
    const place = await workspace();
    await writeFile(place.path("archive.tar"), "this is no archive");
    for (const kind of ["oci-archive", "docker-archive"]) {
      const words = ["convert", `${kind}:${place.path("archive.tar")}`, `oci:${place.path("target")}:n`];
      expectFailure(await place.tool(words, { mayFail: true }), "corrupt");
    }
  });
});

describe("mount", () => {
  let place: Workspace;

  beforeAll(async () => {
    place = await openWorkspace();
    await writeExpected(place.path("tree.jsonl"), expectedTree(smallModel()));
    await writeSmallImage(place.path("source"));
    const target = `oci:${place.path("nydus")}:n`;
    await place.tool(["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, target]);
  });
  afterAll(() => place[Symbol.asyncDispose]());

  /** A copy of the converted image to spoil: its layout, its manifest's digest, its blob's and its bootstrap's. */
  async function copyOf(
    own: Workspace,
  ): Promise<{ layout: string; manifest: string; blob: string; boot: string }> {
    const layout = own.path("nydus");
    await cp(place.path("nydus"), layout, { recursive: true });
    const index = JSON.parse(await readFile(`${layout}/index.json`, "utf8"));
    const manifest: string = index.manifests[0].digest;
    const { layers } = JSON.parse(await readFile(blobPath(layout, manifest), "utf8"));
    return { layout, manifest, blob: layers[0].digest, boot: layers[1].digest };
  }

  async function mountFails(own: Workspace, layout: string): Promise<Output> {
    await mkdir(own.path("mnt"));
    const words = [...own.mountWords(), "--detach", `oci:${layout}:n`, own.path("mnt")];
    const output = await own.tool(words, { mayFail: true });
    expect(own.mounts()).toEqual([]);
    await expect.poll(() => own.processes(), { timeout: 5000 }).toEqual([]);
    return output;
  }

  /** Reads everything; each file is right or gives the errno, and nothing else. */
  async function readsOnly(own: Workspace, mountpoint: string, errno: string): Promise<string[]> {
    const report = await checkTree(place.path("tree.jsonl"), mountpoint);
    const lines = report.split("\n").slice(0, -1);
    for (const line of lines) expect(line).toMatch(new RegExp(`sha256: .* found cannot be read: ${errno}$`));
    expect(own.mounts()).toContain(mountpoint);
    return lines;
  }

  test.each(DRIVERS)(
    "a flipped bit in a blob gives EIO through %s, and the rest is right",
    async (driver) => {
      const own = await workspace();
      const { layout, blob } = await copyOf(own);
      await flip(blobPath(layout, blob), 800_000);
      const mountpoint = await own.mount(`oci:${layout}:n`, { driver });
      expect(await readsOnly(own, mountpoint, "Input/output error")).toHaveLength(1);
      expect(await readsOnly(own, mountpoint, "Input/output error")).toHaveLength(1);
      await own.umount(mountpoint);
    },
  );

  test.each(DRIVERS)("a truncated blob gives EIO through %s", async (driver) => {
    const own = await workspace();
    const { layout, blob } = await copyOf(own);
    await halve(blobPath(layout, blob));
    const mountpoint = await own.mount(`oci:${layout}:n`, { driver });
    const lines = await readsOnly(own, mountpoint, "Input/output error");
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.length).toBeLessThan(4);
    await own.umount(mountpoint);
  });

  test.each(DRIVERS)("a missing blob gives an error through %s, not a hang", async (driver) => {
    const own = await workspace();
    const { layout, blob } = await copyOf(own);
    await run("rm", [blobPath(layout, blob)]);
    const mountpoint = await own.mount(`oci:${layout}:n`, { driver });
    expect(await readsOnly(own, mountpoint, "(Input/output error|No such file or directory)")).toHaveLength(
      4,
    );
    await own.umount(mountpoint);
  });

  test.each(["flipped", "truncated"])("mount refuses a %s bootstrap layer", async (how) => {
    const own = await workspace();
    const { layout, boot } = await copyOf(own);
    const path = blobPath(layout, boot);
    await (how === "flipped" ? flip(path, 200) : halve(path));
    const output = await mountFails(own, layout);
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(boot);
  });

  test("mount refuses a manifest with a flipped bit", async () => {
    const own = await workspace();
    const { layout, manifest } = await copyOf(own);
    await flip(blobPath(layout, manifest), 20);
    const output = await mountFails(own, layout);
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(manifest);
  });

  test("mount of a spoilt bootstrap file either refuses it or the kernel survives it", async () => {
    const own = await workspace();
    const { layout, boot } = await copyOf(own);
    await run("tar", ["-xzf", blobPath(layout, boot), "-C", own.directory]);
    const good = await readFile(own.path("image/image.boot"));
    const random = new Random(17);
    await mkdir(own.path("mnt"));
    let refused = 0;
    for (let i = 0; i < 8; i++) {
      const bad = Buffer.from(good);
      // The first kilobytes hold the superblocks, the device table and the first inodes.
      for (let n = 0; n < 3; n++) bad[1024 + random.below(3000)] = random.below(256);
      await writeFile(own.path("bad.boot"), i === 0 ? good.subarray(0, 5000) : bad);
      const words = ["--detach", "--blobs", `${layout}/blobs/sha256`, own.path("bad.boot"), own.path("mnt")];
      const output = await own.tool([...own.mountWords(), ...words], { mayFail: true });
      if (output.code === 0) {
        await run("sh", ["-c", `find ${own.path("mnt")} -type f -exec cat {} + | wc -c`], { mayFail: true });
        await own.umount(own.path("mnt"));
      } else {
        refused++;
        expectFailure(output, output.code === MEANINGS.unsupported.exit ? "unsupported" : "corrupt");
      }
    }
    expect(refused).toBeGreaterThan(0);
  }, 240_000);
});
