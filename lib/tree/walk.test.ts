import { expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { type Directory, directory, IMPLICIT_DIRECTORY, type RegularFile } from "./tree.ts";
import { chunksInOrder, visits } from "./walk.ts";

function file(): RegularFile {
  return { kind: "file", attributes: IMPLICIT_DIRECTORY, size: 0, chunks: [] };
}

function tree(entries: Record<string, Directory | RegularFile>): Directory {
  const dir = directory();
  for (const [name, node] of Object.entries(entries)) dir.entries.set(byteStringOf(name), node);
  return dir;
}

test("visits() enters directories before what is in them, and says which names are hard links", () => {
  const shared = file();
  const root = tree({ z: shared, "a.d": file(), a: tree({ y: shared, x: file() }) });
  const seen = [...visits(root)].map((visit) =>
    visit.kind === "leave" ? `${visit.path}<` : `${visit.path}${visit.first ? `=${visit.first}` : ""}`,
  );
  expect(seen).toEqual(["", "a", "a/x", "a/y", "a<", "a.d", "z=a/y", "<"]);
});

test("chunksInOrder() names the chunks of a hard-linked file once", () => {
  const chunk = { digest: new Uint8Array(32) } as RegularFile["chunks"][number];
  const shared: RegularFile = { ...file(), chunks: [chunk, chunk] };
  expect([...chunksInOrder(tree({ a: shared, b: shared }))]).toEqual([chunk, chunk]);
});

test("visits() goes thousands of directories deep", () => {
  let root = tree({ leaf: file() });
  for (let depth = 0; depth < 5000; depth++) root = tree({ d: root });
  expect([...visits(root)]).toHaveLength(2 * 5001 + 1);
});

test.each(["", ".", "..", "a/b", "/etc", "../x", "a\0b"])("visits() refuses the name %j", (name) => {
  expect(() => [...visits(tree({ good: tree({ [name]: file() }) }))]).toThrow(
    expect.objectContaining({ code: "corrupt", message: expect.stringContaining('in "/good"') }),
  );
});
