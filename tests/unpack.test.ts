/**
 * What the built program unpacks is what an image holds: images of the reference tools, and awkward ones of our own.
 */
import { cp, mkdir } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { checkGoldenTree, golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { writeNydusLayout } from "./support/nydus-layout.ts";
import { run } from "./support/process.ts";
import { workspace } from "./support/workspace.ts";

const NO_DIFFERENCES = /, 0 differences$/;

describe.skipIf(!hasGolden)("golden images", () => {
  test.each(["v6-zstd", "v6-none", "v6-lz4", "v6-chunk64k", "v6-prefetch", "v6-batch", "v5-zstd", "v5-lz4"])(
    "golden %s of the reference converter unpacks with 0 differences",
    async (name) => {
      const place = await workspace();
      await place.tool(["unpack", `oci:${golden("images", name)}:t`, place.path("out")]);
      const found = await checkGoldenTree(golden("plain", "tree.jsonl"), place.path("out"));
      expect(found).toMatch(NO_DIFFERENCES);
    },
  );

  test.each([
    ["v6-sha256", "v6-sha256"],
    ["v6-chunk4k", "v6-chunk4k"],
    ["v6-chunk16m", "v6-chunk16m"],
    ["v6-dict", "v6-sha256"],
    ["v6-encrypt", "v6-encrypt"],
    ["v6-encrypt", "v6-encrypt"],
    ["v5-sha256", "v5-sha256"],
  ])(
    "golden %s, a bootstrap with the blobs of %s, unpacks but for the xattr it lacks",
    async (name, blobs) => {
      const place = await workspace();
      const flags = ["--blobs", golden("direct", blobs, "blobs")];
      await place.tool(["unpack", ...flags, golden("direct", name, "bootstrap"), place.path("out")]);
      const found = await checkGoldenTree(golden("plain", "tree.jsonl"), place.path("out"));
      expect(found).toMatch(/^differs {2}'\/etc\/user-xattr' xattrs: .*\n.*, 1 differences$/);
    },
  );
});

test.skipIf(!hasGolden)("golden v6-ociref unpacks out of the original layers", async () => {
  const place = await workspace();
  await cp(golden("plain", "oci"), place.path("image"), { recursive: true });
  await cp(golden("images", "v6-ociref"), place.path("image"), { recursive: true, force: true });
  await place.tool(["unpack", `oci:${place.path("image")}:t`, place.path("out")]);
  expect(await checkGoldenTree(golden("plain", "tree.jsonl"), place.path("out"))).toMatch(NO_DIFFERENCES);
});

describe.skipIf(!hasGolden)("convert --reverse", () => {
  test.each([
    ["hard", ["convert", `oci:${golden("hard", "oci")}:t`]],
    ["plain", ["convert", `oci:${golden("plain", "oci")}:t`]],
    ["plain", ["pull", `oci:${golden("images", "v6-lz4")}:t`]],
  ])("golden %s keeps every entry from OCI to RAFS to OCI", async (name, [verb = "", source = ""]) => {
    const place = await workspace();
    await place.tool([verb, source, `oci:${place.path("nydus")}:n`]);
    await place.tool(["convert", "--reverse", `oci:${place.path("nydus")}:n`, `oci:${place.path("back")}:b`]);
    await place.tool(["convert", `oci:${place.path("back")}:b`, `oci:${place.path("again")}:n`]);
    await place.tool(["unpack", `oci:${place.path("again")}:n`, place.path("out")]);
    expect(await checkGoldenTree(golden(name, "tree.jsonl"), place.path("out"))).toMatch(NO_DIFFERENCES);
    // Another program's idea of the same layers; it drops xattrs without a value.
    await run("umoci", ["unpack", "--image", `${place.path("back")}:b`, place.path("bundle")]);
    const other = await checkGoldenTree(golden(name, "tree.jsonl"), place.path("bundle", "rootfs"));
    expect(other).toMatch(/^differs {2}'\/etc\/user-xattr' xattrs: .*\n.*, 1 differences$/);
  });
});

test("unpack --tar - gives other programs' tar the whole tree", async () => {
  const place = await workspace();
  const { layers, tree } = makeImage(411);
  await writeExpected(place.path("tree.jsonl"), tree);
  const { nydus } = await writeNydusLayout(place.directory, layers);
  await mkdir(place.path("out"));
  const script = '"$0" unpack --tar "$1" - | tar x --xattrs --xattrs-include="*" --numeric-owner -p -C "$2"';
  await run("bash", ["-o", "pipefail", "-ec", script, "dist/nydus-tool", nydus, place.path("out")]);
  expect(await checkTree(place.path("tree.jsonl"), place.path("out"))).toMatch(NO_DIFFERENCES);
});

test("unpack tells what it made in its exit code", async () => {
  const place = await workspace();
  const { nydus } = await writeNydusLayout(place.directory, [[{ path: "f", type: "file", mode: 0o644 }]]);
  await place.tool(["unpack", nydus, place.path("out")]);
  const again = await place.tool(["unpack", nydus, place.path("out")], { mayFail: true });
  expect(again).toMatchObject({ code: 15, stderr: expect.stringContaining("it is not empty") });
});
