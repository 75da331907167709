/** The chunk cache as an operator sees it: quota, status. */
import { expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const NO_DIFFERENCES = /, 0 differences$/;

async function convertedImage(place: Workspace): Promise<string> {
  const image = makeImage(401);
  await writeExpected(place.path("tree.jsonl"), image.tree);
  await writeLayout(place.path("source"), image.layers.map(tarOf));
  const layout = `oci:${place.path("nydus")}:n`;
  await place.tool(["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, layout]);
  return layout;
}

async function cacheOf(place: Workspace): Promise<{ bytes: number; limit?: number; evictedBytes: number }> {
  const { stdout } = await place.tool(["status", "--json", "--run-dir", place.path("run")]);
  return JSON.parse(stdout).caches[0];
}

test.each(["erofs", "fuse"] as const)(
  "an image larger than --cache-size shows 0 differences through %s, and the cache stays small",
  async (driver) => {
    const place = await workspace();
    const image = await convertedImage(place);
    const limit = 512 << 10;
    const mountpoint = await place.mount(image, { driver, flags: ["--cache-size", "512K"] });
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    const cache = await cacheOf(place);
    expect(cache).toMatchObject({ limit });
    expect(cache.bytes).toBeLessThanOrEqual(limit);
    expect(cache.evictedBytes).toBeGreaterThan(0);
    await place.umount(mountpoint);
  },
);
