import { expect, test } from "vitest";
import { type StoredLayer, sha256Of, type TocFormat, tocLayer } from "../../tests/support/toc-builder.ts";
import type { Digest } from "../base/digest.ts";
import type { Fetcher } from "../content/content.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type FoundToc, findToc, hasToc } from "./find-toc.ts";

const FORMATS: readonly TocFormat[] = ["estargz", "zstd:chunked", "podman"];
const STARGZ = "containerd.io/snapshot/stargz/toc.digest";
const PODMAN = "io.github.containers.zstd-chunked.manifest";
const CONTAINERD = "io.containers.zstd-chunked.manifest";

const layerOf = (format: TocFormat, files = 3): StoredLayer =>
  tocLayer(
    Array.from({ length: files }, (_, i) => ({
      path: `f${i}`,
      type: "file",
      data: Buffer.from(`data ${i}`),
    })),
    { format },
  );

/** Ranges of bytes in memory, as a registry gives them: not verified, and nothing past the end. */
function find(stored: Uint8Array, annotations: Readonly<Record<string, string>>): Promise<FoundToc> {
  const fetcher: Fetcher = {
    fetch: async (_, { range = { start: 0, end: stored.byteLength } } = {}) =>
      streamOf(stored.subarray(range.start, range.end)),
  };
  const digest = `sha256:${"a".repeat(64)}` as Digest;
  const layer: Descriptor = { mediaType: "", digest, size: stored.byteLength, annotations };
  return findToc(fetcher, layer);
}

function without(annotations: Readonly<Record<string, string>>, ...keys: string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(annotations).filter(([key]) => !keys.includes(key)));
}

test.each(FORMATS)("findToc() finds the table of a %s layer, large or small", async (format) => {
  for (const files of [1, 3, 2000]) {
    const { stored, annotations } = layerOf(format, files);
    const { json, dataSize, compressor } = await find(stored, annotations);
    const { entries } = JSON.parse(Buffer.from(json).toString()) as { entries: unknown[] };
    expect(entries).toHaveLength(format === "podman" ? files : files + 1);
    expect(compressor).toBe(format === "estargz" ? "gzip" : "zstd");
    expect(dataSize).toBeLessThan(stored.byteLength - json.byteLength / 50);
  }
});

test("findToc() needs no position where the footer has it", async () => {
  const { stored, annotations } = layerOf("zstd:chunked");
  const found = await find(stored, without(annotations, `${CONTAINERD}-position`));
  expect(found.json.byteLength).toBeGreaterThan(100);
  const podman = layerOf("podman");
  await find(podman.stored, without(podman.annotations, `${PODMAN}-position`));
});

test("findToc() takes one digest for proof, and wants all that are given to be right", async () => {
  const { stored, annotations } = layerOf("zstd:chunked");
  await find(stored, without(annotations, STARGZ));
  await find(stored, without(annotations, `${CONTAINERD}-checksum`));
  const wrong = sha256Of(Buffer.from("something else"));
  for (const key of [STARGZ, `${CONTAINERD}-checksum`])
    await expect(find(stored, { ...annotations, [key]: wrong })).rejects.toMatchObject({
      code: "corrupt",
      message: expect.stringContaining(`its annotation says ${wrong}`),
    });
  const none = without(annotations, STARGZ, `${CONTAINERD}-checksum`);
  await expect(find(stored, none)).rejects.toMatchObject({ code: "unsupported" });
});

test("hasToc() tells layers by their annotations", () => {
  for (const format of FORMATS) {
    const { annotations, stored, mediaType } = layerOf(format);
    const layer = { mediaType, digest: sha256Of(stored) as Digest, size: stored.byteLength };
    expect(hasToc({ ...layer, annotations })).toBe(true);
    expect(hasToc(layer)).toBe(false);
  }
});

test.each(FORMATS)("findToc() refuses a %s layer that is cut anywhere near its end", async (format) => {
  const { stored, annotations } = layerOf(format);
  for (let cut = 1; cut < 400; cut += 7) {
    if (format !== "estargz" && cut < 80) continue; // only the footer, which an annotation stands for
    await expect(find(stored.subarray(0, -cut), annotations)).rejects.toMatchObject({ code: "corrupt" });
  }
  await expect(find(new Uint8Array(), annotations)).rejects.toMatchObject({ code: "corrupt" });
});

test.each(FORMATS)("findToc() refuses a %s layer with any byte of its table changed", async (format) => {
  const { stored, annotations } = layerOf(format);
  const { dataSize, json } = await find(stored, annotations);
  for (let at = dataSize; at < stored.byteLength; at++) {
    const changed = Buffer.from(stored);
    changed.writeUInt8(changed.readUInt8(at) ^ 0x55, at);
    const found = await find(changed, annotations).catch((error: unknown) => error);
    // Padding and footers of no consequence may change: then the table is the same.
    if (found instanceof Error) expect(found).toMatchObject({ code: "corrupt" });
    else expect(sha256Of((found as FoundToc).json)).toBe(sha256Of(json));
  }
});

test.each([
  ["past the end", "99999999:100:100:1"],
  ["over the end", "10:99999999:100:1"],
  ["of nothing", "10:0:100:1"],
  ["of another type", "10:100:100:2"],
  ["that is none", "10:100"],
  ["that is negative", "-5:100:100:1"],
  ["of too much", "10:100:999999999999:1"],
  ["of too large a number", `${"9".repeat(30)}:100:100:1`],
])("findToc() refuses a place %s", async (_, position) => {
  const { stored, annotations } = layerOf("podman");
  const lie = { ...annotations, [`${PODMAN}-position`]: position };
  await expect(find(stored, lie)).rejects.toMatchObject({ code: "corrupt" });
});

test.each(["ffffffffffffffff", "000000000000ffff", "0000000000000000"])(
  "findToc() refuses an eStargz footer that says %s",
  async (offset) => {
    const { stored, annotations } = layerOf("estargz");
    const changed = Buffer.from(stored);
    changed.write(offset, stored.byteLength - 35, "latin1");
    await expect(find(changed, annotations)).rejects.toMatchObject({ code: "corrupt" });
  },
);
