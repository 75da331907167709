import { expect, test } from "vitest";
import { sha256 } from "../base/digest.ts";
import type { ChunkRef } from "../tree/tree.ts";
import { dictionaryOf } from "./dictionary.test-support.ts";
import { Dictionary, dictionaryTable } from "./dictionary.ts";

const FIRST = { id: "1".repeat(64) };
const SECOND = { id: "2".repeat(64) };
const find = (dictionary: Dictionary, word: string): ChunkRef | undefined =>
  dictionary.find(sha256(Buffer.from(word)), word.length);

test("Dictionary.find() finds every chunk of every bootstrap and no other", () => {
  const many = Array.from({ length: 300 }, (_, i) => `word ${i}`);
  const dictionary = new Dictionary(
    dictionaryTable([dictionaryOf(FIRST, many), dictionaryOf(SECOND, ["crane", "tide"])]),
  );
  expect(dictionary.size).toBe(302);
  for (const [index, word] of many.entries())
    expect(find(dictionary, word)).toMatchObject({ blob: FIRST, index, compressedOffset: 10 * index });
  expect(find(dictionary, "tide")).toMatchObject({ blob: SECOND, index: 1 });
  expect(find(dictionary, "rope")).toBeUndefined();
  expect(dictionary.find(sha256(Buffer.from("tide")), 5)).toBeUndefined();
  expect(dictionary.info(SECOND)?.chunkCount).toBe(2);
});

test("Dictionary.find() takes the first bootstrap's where several have a chunk", () => {
  const [first, second] = [dictionaryOf(FIRST, ["rope", "tide"]), dictionaryOf(SECOND, ["tide", "crane"])];
  expect(find(new Dictionary(dictionaryTable([first, second])), "tide")?.blob).toEqual(FIRST);
  expect(find(new Dictionary(dictionaryTable([second, first])), "tide")?.blob).toEqual(SECOND);
});

test("dictionaryTable() leaves out chunks that too few bootstraps have", () => {
  const [first, second] = [dictionaryOf(FIRST, ["rope", "tide"]), dictionaryOf(SECOND, ["tide", "crane"])];
  const dictionary = new Dictionary(dictionaryTable([first, second], 2));
  expect([...dictionary.chunks()].map(({ digest }) => Buffer.from(digest).toString("hex"))).toEqual([
    Buffer.from(sha256(Buffer.from("tide"))).toString("hex"),
  ]);
});
