import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { mountErofsAside, parseAsideRequest, sayOutcome } from "./erofs-aside.ts";

test("mountErofsAside() passes on why the kernel does not mount", async () => {
  const mountpoint = mkdtempSync(join(tmpdir(), "aside-"));
  const request = { bootstrap: "/etc/passwd", devices: [], mountpoint, loops: false };
  await expect(mountErofsAside(request)).rejects.toThrow('Cannot mount "/etc/passwd"');
  rmdirSync(mountpoint);
});

test("parseAsideRequest() takes what was asked for, and nothing less", () => {
  const request = { bootstrap: "/b", devices: ["/d"], mountpoint: "/m", loops: true };
  expect(parseAsideRequest(JSON.stringify(request))).toEqual(request);
  expect(() => parseAsideRequest('{"bootstrap":"/b"}')).toThrow("names no bootstrap");
});

test("sayOutcome() says one line, good or bad", () => {
  expect(sayOutcome(() => {})).toBe('{"message":""}');
  const failing = (): void => {
    throw new RangeError("no");
  };
  expect(JSON.parse(sayOutcome(failing))).toMatchObject({ code: "internal" });
});
