import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { checkTree, writeExpected } from "./check-tree.ts";
import { makeImage } from "./make-image.ts";
import type { ExpectedEntry } from "./model.ts";
import { writeLayout } from "./oci-layout.ts";
import { run } from "./process.ts";
import { tarOf } from "./tar-builder.ts";

test("makeImage() makes the same bytes from the same seed", () => {
  const [a, b] = [makeImage(11), makeImage(11)];
  expect(a.tree).toEqual(b.tree);
  a.layers.forEach((layer, i) => {
    expect(Buffer.compare(tarOf(layer), tarOf(b.layers[i] ?? []))).toBe(0);
  });
});

test("makeImage() makes other images from other seeds, each with every kind of entry", () => {
  const trees = [21, 22, 23].map((seed) => makeImage(seed).tree);
  expect(new Set(trees.map((tree) => JSON.stringify(tree))).size).toBe(3);
  for (const tree of trees) {
    expect(new Set(tree.map((entry) => entry.type))).toEqual(
      new Set(["file", "dir", "symlink", "char", "block", "fifo"]),
    );
    expect(tree.some((entry) => (entry.nlink ?? 1) > 2)).toBe(true);
  }
});

test("makeImage() deletes by whiteout, by opaque directory and by replacing", () => {
  const upper = [31, 32, 33].flatMap((seed) => makeImage(seed).layers.slice(1).flat());
  const names = upper.map((item) => item.path.split("/").at(-1) ?? "");
  expect(names.filter((name) => name === ".wh..wh..opq").length).toBeGreaterThan(0);
  expect(names.filter((name) => name.startsWith(".wh.") && name !== ".wh..wh..opq").length).toBeGreaterThan(
    9,
  );
  expect(upper.some((item) => item.type === "hardlink")).toBe(true);
});

/** umoci drops xattrs with an empty value, and does not give every directory its time back. */
function asUmociLeavesIt(entry: ExpectedEntry): ExpectedEntry {
  const xattrs = Object.fromEntries(Object.entries(entry.xattrs).filter(([, value]) => value !== ""));
  return { ...entry, xattrs, mtime: entry.type === "dir" ? null : entry.mtime };
}

test.each([41, 42])(
  "makeImage(%i) unpacks to its expected tree, says an independent unpacker",
  async (seed) => {
    const directory = await mkdtemp(join(tmpdir(), "nydus-tool-made-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const image = makeImage(seed);
    await writeLayout(`${directory}/oci`, image.layers.map(tarOf), { compression: ["gzip", "none"] });
    await writeExpected(`${directory}/tree.jsonl`, image.tree.map(asUmociLeavesIt));
    await run("umoci", ["unpack", "--image", `${directory}/oci:t`, `${directory}/bundle`]);
    expect(await checkTree(`${directory}/tree.jsonl`, `${directory}/bundle/rootfs`)).toMatch(
      /, 0 differences$/,
    );
  },
);
