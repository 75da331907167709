import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { dictionaryOf } from "../blob/dictionary.test-support.ts";
import { convert } from "./convert.ts";

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "dictionaries-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const BLOB = { id: "1".repeat(64) };

async function convertWords(words: readonly string[], dictionaries: readonly (readonly string[])[]) {
  const root = join(directory, "root");
  await mkdir(root);
  for (const word of words) await writeFile(join(root, word), word);
  const files = dictionaries.map((_, i) => join(directory, `dictionary${i}`));
  for (const [i, chunks] of dictionaries.entries())
    await writeFile(files[i] ?? "", dictionaryOf(BLOB, chunks).bytes);
  return await convert({
    source: `dir:${root}`,
    target: `oci:${join(directory, "out")}:t`,
    chunkDicts: files,
  });
}

test("convert() refuses dictionaries that contradict each other about a blob", async () => {
  const conversion = convertWords(["rope", "tide"], [["rope"], ["tide"]]);
  await expect(conversion).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringMatching(/two accounts of chunk 0/),
  });
});

test("convert() refuses dictionaries that put one chunk at several places", async () => {
  const conversion = convertWords(
    ["rope", "tide", "sail"],
    [
      ["rope", "tide"],
      ["sail", "rope"],
    ],
  );
  await expect(conversion).rejects.toMatchObject({ code: "corrupt" });
});

test("convert() refuses to refer to a blob that nobody has", async () => {
  const conversion = convertWords(["rope", "crane"], [["rope", "tide"]]);
  await expect(conversion).rejects.toMatchObject({
    code: "not_found",
    message: expect.stringMatching(/it is not in the target/),
  });
});

test("convert() has no use for a dictionary without any of the chunks", async () => {
  const report = await convertWords(["crane"], [["rope"]]);
  expect(report.dictionaryBlobs).toBeUndefined();
  expect(report.layers[0]?.chunks).toBe(1);
});
