import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { byteStringOf } from "../lib/base/byte-string.ts";
import { digestOf } from "../lib/base/digest.ts";
import { readBootstrapLayer } from "../lib/image/bootstrap-layer.ts";
import { loadImage } from "../lib/image/load.ts";
import { openStore } from "../lib/image/open.ts";
import { writeNydusLayout } from "../tests/support/nydus-layout.ts";
import type { TarItem } from "../tests/support/tar-builder.ts";
import { runVerb } from "./command.test-support.ts";
import { inspect } from "./inspect.ts";

const CHUNK = 4096;
const one = Buffer.alloc(CHUNK, 1);
const LAYERS: readonly (readonly TarItem[])[] = [
  [
    {
      path: "etc/two words",
      type: "file",
      data: Buffer.concat([one, Buffer.from("tail")]),
      mode: 0o640,
      uid: 7,
    },
    { path: "etc/again", type: "hardlink", target: "etc/two words" },
    { path: "copy", type: "file", data: one, mtime: -1, xattrs: new Map([["user.note", Buffer.from("hi")]]) },
  ],
  [
    { path: "link", type: "symlink", target: "etc/again" },
    { path: "null", type: "char", major: 1, minor: 3 },
  ],
];

let place: string;
let image: string;
let bootstrap: string;
beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), "inspect-"));
  const prefetch = [byteStringOf("/etc/again")];
  image = (await writeNydusLayout(place, LAYERS, { chunkSize: CHUNK, prefetch })).nydus;
  bootstrap = join(place, "image.boot");
});
afterAll(() => rm(place, { recursive: true }));

async function json(...argv: string[]): Promise<Record<string, unknown>> {
  const { lines, error } = await runVerb(inspect, ["--json", ...argv]);
  expect(error).toBeUndefined();
  return JSON.parse(lines.join("\n"));
}

test("inspect shows manifest, superblock, tables, blobs and the prefetch list", async () => {
  const { image: manifest, bootstrap: facts, violations } = await json(image);
  expect(violations).toBe(0);
  expect(manifest).toMatchObject({
    layers: [{ kind: "blob" }, { kind: "blob" }, { kind: "bootstrap" }],
  });
  expect(facts).toMatchObject({
    version: 6,
    chunkSize: CHUNK,
    compressor: "zstd",
    digester: "sha256",
    flags: expect.arrayContaining(["digesterSha256", "compressorZstd", "hasXattr"]),
    tables: { blob: { offset: 4096, size: 256 }, prefetch: { size: 4 }, chunk: { size: 160 } },
    blobs: [{ index: 0, chunks: 2, features: expect.arrayContaining(["toc"]), uncompressedSize: 2 * CHUNK }],
    prefetch: [{ path: "/etc/again" }],
  });
  const { lines } = await runVerb(inspect, [image]);
  expect(lines.join("\n")).toMatch(
    /^bootstrap +RAFS v6, .*^prefetch +\/etc\/again .*^blob 0 +[0-9a-f]{64}$/ms,
  );
});

test("inspect --save gives the bootstrap, which can be inspected alone", async () => {
  await runVerb(inspect, ["--save", bootstrap, image]);
  const { store, reference } = await openStore(image);
  const bytes = await readBootstrapLayer(store, await loadImage(store, reference));
  expect(digestOf(await readFile(bootstrap))).toBe(digestOf(bytes));
  expect((await json(bootstrap)).bootstrap).toEqual((await json(image)).bootstrap);
});

test("inspect PATH shows attributes and chunks", async () => {
  const file = await json(image, "/etc/two words");
  expect(file).toMatchObject({ kind: "file", mode: "0640", uid: 7, links: 2, size: CHUNK + 4 });
  expect(file.chunks).toMatchObject([
    { index: 0, uncompressedSize: CHUNK, digest: digestOf(one).slice("sha256:".length) },
    { index: 1, uncompressedSize: 4, compressed: false },
  ]);
  expect(await json(image, "copy")).toMatchObject({ mtime: -1, xattrs: { "user.note": "6869" } });
  expect(await json(image, "/link")).toMatchObject({ kind: "symlink", target: "etc/again" });
  expect(await json(image, "/null")).toMatchObject({ kind: "char", device: { major: 1, minor: 3 } });
  expect((await json(image, "/")).entries).toEqual([
    { name: "copy", kind: "file" },
    { name: "etc", kind: "directory" },
    { name: "link", kind: "symlink" },
    { name: "null", kind: "char" },
  ]);
  const { lines } = await runVerb(inspect, [image, "/etc/two words"]);
  expect(lines[0]).toBe("path        /etc/two\\x20words");
  expect((await runVerb(inspect, [image, "/etc/none"])).error).toMatchObject({ code: "not_found" });
});

test("inspect --tree lists every path, and --json one object a line", async () => {
  const { lines } = await runVerb(inspect, ["--tree", "--json", image]);
  expect(lines.map((line) => JSON.parse(line).path)).toEqual([
    "/",
    "/copy",
    "/etc",
    "/etc/again",
    "/etc/two words",
    "/link",
    "/null",
  ]);
  const text = (await runVerb(inspect, ["--tree", image])).lines;
  expect(text).toContain("/copy file 0644 0:0 -1 size=4096 user.note=6869");
});

test("inspect --chunk finds a chunk by its number and by a stored byte, with its files", async () => {
  const facts = (await json(image)).bootstrap as { blobs: { id: string }[] };
  const id = facts.blobs[0]?.id ?? "";
  const byNumber = await json(image, "--chunk", "0:0");
  const [{ compressedOffset = -1 } = {}] = byNumber.chunks as { compressedOffset?: number }[];
  expect(byNumber.chunks).toMatchObject([
    { blob: id, index: 0, users: 3, paths: ["/copy", "/etc/again", "/etc/two words"] },
  ]);
  expect(await json(image, "--chunk", `${id.slice(0, 8)}@${compressedOffset + 1}`)).toEqual(byNumber);
  const wrong = async (chunk: string) => (await runVerb(inspect, [image, "--chunk", chunk])).error;
  expect(await wrong("0:99")).toMatchObject({ code: "not_found" });
  expect(await wrong("9:0")).toMatchObject({ code: "usage" });
  expect(await wrong("0")).toMatchObject({ code: "usage" });
});

test("inspect --chunk shows all chunks that share a stored unit", async () => {
  const { nydus } = await writeNydusLayout(place, LAYERS, { name: "ref", chunkSize: CHUNK, reference: true });
  const { chunks } = await json(nydus, "--chunk", "0@20");
  expect(chunks).toMatchObject([
    { index: 0, unit: { kind: "window", offset: expect.any(Number) } },
    { index: 1, unit: { kind: "window" } },
  ]);
});

test("inspect shows the tables of a damaged bootstrap, but does not walk through it", async () => {
  await runVerb(inspect, ["--save", bootstrap, image]);
  const bytes = await readFile(bootstrap);
  bytes.fill(0, 1024 + 36, 1024 + 40); // the superblock counts the blocks of all devices
  await writeFile(bootstrap, bytes);
  expect(await json(bootstrap)).toMatchObject({ violations: 1, bootstrap: { version: 6 } });
  const walked = await runVerb(inspect, [bootstrap, "/copy"]);
  expect(walked.error).toMatchObject({
    code: "corrupt",
    message: expect.stringContaining("see nydus-tool check"),
  });
});

test("inspect takes one question at a time", async () => {
  const { error } = await runVerb(inspect, ["--tree", image, "/copy"]);
  expect(error).toMatchObject({ code: "usage" });
});
