import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { digestOf } from "../lib/base/digest.ts";
import { OciLayout } from "../lib/content/oci-layout.ts";
import { loadImage } from "../lib/image/load.ts";
import { sampleTree } from "../lib/rafs/sample-tree.test-support.ts";
import { writeBootstrap } from "../lib/rafs/writer.ts";
import { writeNydusLayout } from "../tests/support/nydus-layout.ts";
import { check } from "./check.ts";
import { runVerb } from "./command.test-support.ts";

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "check-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

function sample(damage?: (bytes: Uint8Array) => void): string {
  const { root, blobs } = sampleTree();
  const bytes = writeBootstrap(root, blobs.options);
  damage?.(bytes);
  const path = join(dir, "bootstrap");
  writeFileSync(path, bytes);
  return path;
}

const run = (...argv: string[]) => runVerb(check, argv);

/** The superblock counts the blocks of all devices. */
const wrongBlocks = (bytes: Uint8Array): void => void bytes.fill(0, 1024 + 36, 1024 + 40);

test("check says nothing of a good bootstrap", async () => {
  expect(await run(sample())).toEqual({ lines: [], error: undefined });
});

test("check prints what is wrong and fails with corrupt", async () => {
  const path = sample(wrongBlocks);
  const { lines, error } = await run(path);
  expect(lines).toEqual([
    expect.stringMatching(/^tables: the superblock counts 0 blocks, .* \(near byte \d+\)$/),
  ]);
  expect(error).toMatchObject({ code: "corrupt", message: `Cannot trust "${path}": 1 problem` });
});

test("check --json prints one object", async () => {
  const path = sample(wrongBlocks);
  const { lines, error } = await run("--json", path);
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    { bootstrap: path, violations: [{ path: "", offset: 1060, message: expect.any(String) }] },
  ]);
  expect(error).toMatchObject({ code: "corrupt" });
});

test("check tells a kind of image that is not supported from damage", async () => {
  const v5 = sample((bytes) => bytes.set([0x53, 0x46, 0x41, 0x52]));
  expect((await run(v5)).error).toMatchObject({ code: "unsupported" });
});

test("check fails with not_found where there is nothing", async () => {
  expect((await run(join(dir, "nothing"))).error).toMatchObject({ code: "not_found" });
});

test("check --data reads an image's blobs, and says which file is damaged", async () => {
  const items = [{ path: "file", type: "file", data: Buffer.from("content") }] as const;
  const { nydus, directory } = await writeNydusLayout(dir, [items]);
  const good = await run("--data", nydus);
  expect(good).toEqual({
    lines: [expect.stringMatching(/^1 chunks in 1 blobs read, /)],
    error: undefined,
  });
  const { data } = JSON.parse((await run("--data", "--json", nydus)).lines[0] ?? "");
  expect(data).toMatchObject({ blobs: 1, chunks: 1, violations: [] });
  const store = await OciLayout.open(directory);
  const [blob] = (await loadImage(store, "n")).layers;
  const path = store.blobPath(blob?.descriptor.digest ?? digestOf(Buffer.alloc(0)));
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.fill(0, 1024, 1025));
  const bad = await run("--data", nydus);
  expect(bad.lines[0]).toMatch(/^blob [0-9a-f]{64}: .* \(at byte 1024, in \/file\)$/);
  expect(bad.error).toMatchObject({ code: "corrupt", message: `Cannot trust "${nydus}": 2 problems` });
});
