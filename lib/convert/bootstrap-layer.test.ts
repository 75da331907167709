import { expect, test } from "vitest";
import { bootstrapLayerFiles } from "../../tests/support/converted-image.ts";
import { golden, hasGolden } from "../../tests/support/golden.ts";
import { digestOf } from "../base/digest.ts";
import { OciLayout } from "../content/oci-layout.ts";
import { loadImage } from "../image/load.ts";
import { bootstrapLayer } from "./bootstrap-layer.ts";

const FILES = [{ name: `${"a".repeat(64)}.blob.meta`, bytes: Buffer.alloc(700, "m") }];

test("bootstrapLayer() gives the same bytes each time, without time or system in the gzip header", () => {
  const layer = bootstrapLayer(Buffer.alloc(5000, "b"), FILES);
  expect(bootstrapLayer(Buffer.alloc(5000, "b"), FILES).digest).toBe(layer.digest);
  expect(Buffer.from(layer.bytes.subarray(0, 10)).toString("hex")).toBe("1f8b08000000000000ff");
  expect(layer.digest).toBe(digestOf(layer.bytes));
  expect(layer.diffId).toBe(digestOf(Bun.gunzipSync(layer.bytes as Uint8Array<ArrayBuffer>)));
});

test.skipIf(!hasGolden).each(["v6-zstd", "v6-none"])(
  "bootstrapLayer() writes the very tar of golden %s",
  async (name) => {
    const store = await OciLayout.open(golden("images", name));
    const image = await loadImage(store, undefined);
    const [, boot, ...files] = await bootstrapLayerFiles(store, image);
    const layer = bootstrapLayer(
      boot?.[1] ?? new Uint8Array(),
      files.map(([path, bytes]) => ({ name: path.replace("image/", ""), bytes })),
    );
    expect(layer.diffId).toBe(image.config.rootfs.diff_ids.at(-1));
  },
);
