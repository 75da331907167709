import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { flock, LOCK } from "../../ffi/libc.ts";
import { collectCache } from "./cache-garbage.ts";

const [ONE, TWO, BOOT] = ["1", "2", "b"].map((c) => c.repeat(64)) as [string, string, string];
const NOTHING = { blobs: new Set<string>(), bootstraps: new Set<string>() };
const HOUR = 3_600_000;

let cache: string;

function put(path: string): void {
  const full = join(cache, path);
  mkdirSync(join(full, ".."), { recursive: true });
  writeFileSync(full, "x");
}

beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), "nt-garbage-"));
  for (const name of [ONE, `${ONE}-0123456789abcdef`, TWO]) {
    put(`blobs/${name}/data`);
    put(`blobs/${name}/claims`);
  }
  for (const path of [
    `checked/${BOOT}.1`,
    `chunk-info/${BOOT}/${ONE}`,
    `erofs/${BOOT}.1`,
    `traces/${BOOT}.json`,
  ])
    put(path);
});
afterEach(() => rmSync(cache, { recursive: true, force: true }));

test("collectCache() keeps what is needed, and removes the rest after the grace time and not before", async () => {
  const needed = { blobs: new Set([ONE]), bootstraps: new Set([BOOT]) };
  expect(await collectCache(cache, needed, { grace: HOUR, now: 0 })).toEqual([]);
  expect(await collectCache(cache, needed, { grace: HOUR, now: HOUR - 1 })).toEqual([]);
  expect(await collectCache(cache, needed, { grace: HOUR, now: HOUR })).toEqual([`blobs/${TWO}`]);
  expect(await collectCache(cache, NOTHING, { grace: HOUR, now: HOUR + 1 })).toEqual([]);
  const rest = await collectCache(cache, NOTHING, { grace: HOUR, now: 2 * HOUR + 1 });
  expect([...rest].sort()).toEqual(
    [
      ...[ONE, `${ONE}-0123456789abcdef`].map((name) => `blobs/${name}`),
      ...[`checked/${BOOT}.1`, `chunk-info/${BOOT}`, `erofs/${BOOT}.1`, `traces/${BOOT}.json`],
    ].sort(),
  );
  for (const kind of ["blobs", "checked", "chunk-info", "erofs", "traces"])
    expect(readdirSync(join(cache, kind))).toEqual([]);
});

test("collectCache() begins to wait anew when something was needed meanwhile", async () => {
  await collectCache(cache, NOTHING, { grace: HOUR, now: 0 });
  await collectCache(cache, { ...NOTHING, blobs: new Set([TWO]) }, { grace: HOUR, now: HOUR / 2 });
  const removed = await collectCache(cache, NOTHING, { grace: HOUR, now: HOUR });
  expect(removed).toContain(`blobs/${ONE}`);
  expect(removed).not.toContain(`blobs/${TWO}`);
});

test("collectCache() leaves alone what somebody has locked, and takes it later", async () => {
  const fd = openSync(join(cache, "blobs", ONE, "data"), "r");
  expect(flock(fd, LOCK.EX | LOCK.NB)).toBe(0);
  expect(await collectCache(cache, NOTHING, { grace: 0 })).not.toContain(`blobs/${ONE}`);
  expect(existsSync(join(cache, "blobs", ONE, "claims"))).toBe(true);
  closeSync(fd);
  expect(await collectCache(cache, NOTHING, { grace: 0 })).toEqual([`blobs/${ONE}`]);
});

test("collectCache() takes files that a killed process left half written, but not those of a living one", async () => {
  put("erofs/.half.partial");
  const needed = { ...NOTHING, bootstraps: new Set([BOOT]) };
  await collectCache(cache, needed, { grace: 0, now: 0 });
  expect(existsSync(join(cache, "erofs/.half.partial"))).toBe(true);
  expect(await collectCache(cache, needed, { grace: 0, now: HOUR })).toEqual(["erofs/.half.partial"]);
});

test("collectCache() goes on with a damaged note, and with a clock that was set back", async () => {
  writeFileSync(join(cache, "unneeded.json"), '{"blobs/');
  await collectCache(cache, NOTHING, { grace: HOUR, now: 10 * HOUR });
  await collectCache(cache, NOTHING, { grace: HOUR, now: 0 });
  expect(await collectCache(cache, NOTHING, { grace: HOUR, now: HOUR })).toContain(`blobs/${ONE}`);
});
