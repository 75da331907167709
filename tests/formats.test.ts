/**
 * Images of every kind that the reference tools write, mounted by the built program on both drivers.
 */
import { cp, readFile, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { bootstrapOf } from "../lib/rafs/oci-layout.test-support.ts";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { checkGoldenTree, golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { tarOf } from "./support/tar-builder.ts";
import { makeVersions } from "./support/versions.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "fuse"] as const;
const NO_DIFFERENCES = /, 0 differences$/;

/** What fed the builder of the images in `direct` dropped this one xattr. */
async function directTree(place: Workspace): Promise<string> {
  const lines = (await readFile(golden("plain", "tree.jsonl"), "utf8")).trim().split("\n");
  const changed = lines.map((line) => {
    const entry = JSON.parse(line) as { xattrs?: Record<string, string> };
    delete entry.xattrs?.["user.empty"];
    return JSON.stringify(entry);
  });
  await writeFile(place.path("direct.jsonl"), `${changed.join("\n")}\n`);
  return place.path("direct.jsonl");
}

describe.skipIf(!hasGolden)("golden images", () => {
  test.each(["v6-batch", "v6-ociref"])("golden %s shows 0 differences on each driver", async (name) => {
    const place = await workspace();
    // The data of `v6-ociref` is in the original's layers.
    await cp(golden("plain", "oci"), place.path("image"), { recursive: true });
    await cp(golden("images", name), place.path("image"), { recursive: true, force: true });
    await place.mountEach(DRIVERS, `oci:${place.path("image")}:t`, async (mountpoint) => {
      expect(await checkGoldenTree(golden("plain", "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });

  test.each([
    ["v6-sha256", "v6-sha256"],
    ["v6-dict", "v6-sha256"],
    ["v6-encrypt", "v6-encrypt"],
    ["v6-chunk4k", "v6-chunk4k"],
    ["v6-chunk16m", "v6-chunk16m"],
  ])("golden bootstrap %s shows 0 differences on each driver", async (name, blobs) => {
    const place = await workspace();
    const expected = await directTree(place);
    const look = async (mountpoint: string): Promise<void> =>
      expect(await checkGoldenTree(expected, mountpoint)).toMatch(NO_DIFFERENCES);
    const flags = ["--blobs", golden("direct", blobs, "blobs")];
    await place.mountEach(DRIVERS, golden("direct", name, "bootstrap"), look, flags);
  });
});

test.skipIf(!hasGolden).each(["v6-zstd", "v6-batch"])(
  "golden %s without its chunk table shows 0 differences on each driver",
  async (name) => {
    const place = await workspace();
    const bootstrap = Buffer.from(await bootstrapOf(golden("images", name)));
    // The table's size, in the extended superblock.
    bootstrap.fill(0, 1152 + 32, 1152 + 40);
    await writeFile(place.path("image.boot"), bootstrap);
    const flags = ["--blobs", golden("images", name, "blobs", "sha256")];
    const look = async (mountpoint: string): Promise<void> =>
      expect(await checkGoldenTree(golden("plain", "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    await place.mountEach(DRIVERS, place.path("image.boot"), look, flags);
  },
);

interface Report {
  readonly sourceSize: number;
  /** Without the original layers. */
  readonly targetSize: number;
  readonly targetDigest: string;
  readonly layers: readonly { readonly original?: string }[];
}

describe("convert --oci-ref", () => {
  test.each([
    { seed: 401, compression: ["gzip"] as const },
    { seed: 402, compression: ["none", "gzip-members", "zstd"] as const },
  ])("leaves the data in $compression layers and shows 0 differences", async ({ seed, compression }) => {
    const place = await workspace();
    const image = makeImage(seed);
    await writeExpected(place.path("tree.jsonl"), image.tree);
    await writeLayout(place.path("source"), image.layers.map(tarOf), { compression });
    const target = `oci:${place.path("nydus")}:n`;
    const words = ["convert", "--oci-ref", "--json", `oci:${place.path("source")}:t`, target];
    const first = JSON.parse((await place.tool(words)).stdout) as Report;
    expect((JSON.parse((await place.tool(words)).stdout) as Report).targetDigest).toBe(first.targetDigest);
    await place.mountEach(DRIVERS, target, async (mountpoint) => {
      expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });

  test("adds less than a twentieth of the image", async () => {
    const place = await workspace();
    await writeLayout(place.path("source"), makeVersions(404, { versions: 1, files: 700 }).map(tarOf));
    const words = [
      "convert",
      "--oci-ref",
      "--json",
      `oci:${place.path("source")}:t`,
      `oci:${place.path("nydus")}:n`,
    ];
    const { sourceSize, targetSize } = JSON.parse((await place.tool(words)).stdout) as Report;
    expect(targetSize).toBeLessThan(sourceSize / 20);
  });

  test("gets the original layers into another repository, without sending them where they are", async () => {
    const place = await workspace();
    const image = makeImage(403);
    await writeExpected(place.path("tree.jsonl"), image.tree);
    await writeLayout(place.path("source"), image.layers.map(tarOf), { compression: ["gzip"] });
    const { host } = await startEmbeddedRegistry(place);
    const convert = async (...words: string[]): Promise<string[]> => {
      const { stdout } = await place.tool(["convert", "--oci-ref", "--json", ...words]);
      return (JSON.parse(stdout) as Report).layers.map(({ original = "none" }) => original);
    };
    const layout = `oci:${place.path("source")}:t`;
    const all = (how: string): string[] => image.layers.map(() => how);
    expect(await convert(layout, `${host}/first/ref:n`)).toEqual(all("sent"));
    expect(await convert(layout, `${host}/first/ref:again`)).toEqual(all("present"));
    const mountpoint = await place.mount(`${host}/first/ref:n`);
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    await place.umount(mountpoint);
    // Copies take them along, by either verb: within the registry and out of it.
    await place.tool(["pull", `${host}/first/ref:n`, `${host}/second/ref:n`]);
    await place.tool(["convert", `${host}/second/ref:n`, `oci:${place.path("copy")}:n`]);
    for (const copy of [`${host}/second/ref:n`, `oci:${place.path("copy")}:n`]) {
      const seen = await place.mount(copy, { cache: place.path(`cache-${copy.length}`) });
      expect(await checkTree(place.path("tree.jsonl"), seen)).toMatch(NO_DIFFERENCES);
      await place.umount(seen);
    }
  });
});

describe.skipIf(!hasGolden)("golden plain and hard", () => {
  test.each(["plain", "hard"])("golden %s by --oci-ref shows 0 differences", async (name) => {
    const place = await workspace();
    const target = `oci:${place.path("nydus")}:n`;
    await place.tool(["convert", "--oci-ref", `oci:${golden(name, "oci")}:t`, target]);
    await place.mountEach(DRIVERS, target, async (mountpoint) => {
      expect(await checkGoldenTree(golden(name, "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });
});
