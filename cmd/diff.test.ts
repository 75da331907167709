import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeImage } from "../tests/support/make-image.ts";
import { type NydusLayout, writeNydusLayout } from "../tests/support/nydus-layout.ts";
import type { TarItem } from "../tests/support/tar-builder.ts";
import { runVerb, type VerbResult } from "./command.test-support.ts";
import { diff } from "./diff.ts";
import { inspect } from "./inspect.ts";

let place: string;
beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), "diff-"));
});
afterAll(() => rm(place, { recursive: true }));

const SAME: VerbResult = { lines: [], error: undefined };
const differ = (...argv: string[]): Promise<VerbResult> => runVerb(diff, argv);
const image = (name: string, ...layers: readonly (readonly TarItem[])[]): Promise<NydusLayout> =>
  writeNydusLayout(place, layers, { name, chunkSize: 4096 });

test("diff finds no difference between an image and any form of it", async () => {
  const { layers } = makeImage(421);
  const a = await writeNydusLayout(place, layers, { name: "a", chunkSize: 4096 });
  const b = await writeNydusLayout(place, layers, { name: "b", chunkSize: 65536, digester: "blake3" });
  const bootstrap = join(place, "a.boot");
  await runVerb(inspect, ["--save", bootstrap, a.nydus]);
  expect(await differ(a.plain, a.nydus)).toEqual(SAME);
  expect(await differ(b.nydus, a.plain)).toEqual(SAME);
  expect(await differ(a.nydus, b.nydus)).toEqual(SAME);
  // Its blobs are not needed: both are cut and hashed alike.
  expect(await differ(bootstrap, a.nydus)).toEqual(SAME);
});

test("diff names each difference with both values, and exits 1", async () => {
  const data = Buffer.alloc(10_000, 1);
  const file = (path: string, more: Partial<TarItem> = {}): TarItem => ({
    path,
    type: "file",
    data,
    ...more,
  });
  const changed = Buffer.from(data).fill(2, 5000, 5001);
  const before = await image("before", [
    file("content"),
    file("gone"),
    file("linked"),
    { path: "to", type: "symlink", target: "a" },
    file("attributes", { mode: 0o600, uid: 1, mtime: 5, xattrs: new Map([["user.k", Buffer.from("v")]]) }),
  ]);
  const after = await image("after", [
    file("content", { data: changed }),
    { path: "gone", type: "dir" },
    file("linked"),
    { path: "second name", type: "hardlink", target: "linked" },
    { path: "to", type: "symlink", target: "b" },
    file("attributes", { mode: 0o4755, gid: 2, mtime: 6 }),
  ]);
  for (const [x, y] of [
    [before.nydus, after.nydus],
    [before.plain, after.nydus],
    [before.plain, after.plain],
  ] as const) {
    const { lines, error } = await differ(x, y);
    expect(error).toMatchObject({ exitCode: 1 });
    expect(lines).toEqual([
      "~ /attributes: mode 0600 -> 04755, uid 1 -> 0, gid 0 -> 2, mtime 5.000000000 -> 6.000000000, xattrs user.k=0x76 -> none",
      expect.stringMatching(
        x === before.plain && y === after.plain ? /content: .* at 0$/ : /content: .* at 4096$/,
      ),
      expect.stringMatching(/^~ \/gone: type file -> directory/),
      "~ /linked: link none -> /linked",
      "+ /second\\x20name: file",
      "~ /to: target a -> b",
    ]);
  }
  const { lines, error } = await differ("--json", before.nydus, after.nydus);
  expect(error).toMatchObject({ exitCode: 1 });
  const { differences } = JSON.parse(lines.join("\n"));
  expect(differences).toHaveLength(6);
  expect(differences[4]).toEqual({ path: "/second name", change: "added", kind: "file", fields: [] });
  expect(differences[5].fields).toEqual([{ field: "target", before: "a", after: "b" }]);
  expect(await differ("--quiet", before.nydus, after.nydus)).toMatchObject({
    lines: [],
    error: { exitCode: 1 },
  });
});

test("diff --ignore leaves fields out", async () => {
  const at = (mtime: number, mode: number): readonly TarItem[] => [{ path: "f", type: "file", mtime, mode }];
  const [a, b] = [await image("one", at(1, 0o600)), await image("two", at(2, 0o644))];
  expect(await differ("--ignore", "mtime,mode", a.nydus, b.nydus)).toEqual(SAME);
  expect((await differ("--ignore", "mtime", a.nydus, b.nydus)).lines).toEqual(["~ /f: mode 0600 -> 0644"]);
  expect((await differ("--ignore", "time", a.nydus, b.nydus)).error).toMatchObject({ code: "usage" });
});

test("diff compares with a directory on disk", async () => {
  const directory = join(place, "root");
  await mkdir(directory, { mode: 0o755 });
  await writeFile(join(directory, "f"), "content", { mode: 0o644 });
  const { uid, gid } = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const data = Buffer.from("content");
  const { nydus } = await image("small", [
    { path: "./", type: "dir", mode: 0o755, uid, gid },
    { path: "f", type: "file", data, mode: 0o644, uid, gid },
  ]);
  expect(await differ("--ignore", "mtime", nydus, `dir:${directory}`)).toEqual(SAME);
  await writeFile(join(directory, "f"), "contend");
  const { lines } = await differ("--ignore", "mtime", nydus, `dir:${directory}`);
  expect(lines).toEqual([expect.stringMatching(/^~ \/f: content [0-9a-f]{12} at 0 -> [0-9a-f]{12} at 0$/)]);
});

test("diff fails as other verbs do where there is nothing", async () => {
  const { nydus } = await image("there", []);
  expect((await differ(nydus, join(place, "none.boot"))).error).toMatchObject({ code: "not_found" });
});
