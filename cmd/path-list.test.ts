import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readPathList } from "./path-list.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "path-list-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function listOf(content: string | Uint8Array): string[] {
  const file = join(directory, "list");
  writeFileSync(file, content);
  return readPathList(file);
}

test("readPathList() takes a path a line, as bytes, and passes over comments and empty lines", () => {
  expect(listOf("/usr/bin/a\n\n# what starts\r\n/etc\r\n")).toEqual(["/usr/bin/a", "/etc"]);
  expect(listOf(Buffer.from([0x2f, 0xff, 0x0a]))).toEqual(["/\u00ff"]);
  expect(listOf("")).toEqual([]);
});

test("readPathList() takes the JSON of nydusify optimize", () => {
  const list = { version: "v1", files: [{ path: "/a", ranges: [[0, 10]] }, { path: "/é" }, "/b"] };
  expect(listOf(JSON.stringify(list))).toEqual(["/a", "/\u00c3\u00a9", "/b"]);
});

test.each([
  ["{", "begins like JSON"],
  ["{}", 'no list "files"'],
  ['{"files":[{"name":1}]}', "has no path"],
])("readPathList() refuses %s", (content, message) => {
  expect(() => listOf(content)).toThrow(message);
});

test("readPathList() says when there is no such file", () => {
  expect(() => readPathList(join(directory, "none"))).toThrow(/Cannot read ".*none"/);
});
