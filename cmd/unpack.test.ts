import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { quietLogger } from "../lib/base/log.ts";
import { silent } from "../lib/base/progress.ts";
import { writeNydusLayout } from "../tests/support/nydus-layout.ts";
import { parseCommandLine } from "./command.ts";
import { unpack } from "./unpack.ts";

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "unpack-verb-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

async function run(...argv: string[]): Promise<string[]> {
  const lines: string[] = [];
  await unpack.run(parseCommandLine(unpack, argv), {
    log: quietLogger,
    signal: new AbortController().signal,
    progress: () => silent,
    print: (line) => lines.push(line),
    env: {},
  });
  return lines;
}

async function image(): Promise<string> {
  const { nydus } = await writeNydusLayout(place, [
    [{ path: "hello", type: "file", data: Buffer.from("hello") }],
  ]);
  return nydus;
}

test("unpack makes a directory and says how much went there", async () => {
  const target = join(place, "out");
  expect(await run(await image(), target)).toEqual([`2 entries, 5 B of file data, in ${target}`]);
  expect(await readFile(join(target, "hello"), "utf8")).toBe("hello");
});

test("unpack --tar --json writes a tar and one object", async () => {
  const target = join(place, "out.tar");
  const location = await image();
  const lines = await run("--tar", "--json", location, target);
  expect(lines.map((line) => JSON.parse(line))).toEqual([{ image: location, target, entries: 2, bytes: 5 }]);
  const tar = await readFile(target);
  expect(tar.byteLength % 512).toBe(0);
  expect(tar.toString("latin1")).toContain("hello");
});

test("unpack leaves no tar behind when it fails", async () => {
  const target = join(place, "none/out.tar");
  await expect(run("--tar", await image(), target)).rejects.toMatchObject({ code: "not_found" });
});
