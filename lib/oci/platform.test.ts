import { expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { formatPlatform, hostPlatform, manifestsFor, parsePlatform, platformsMatch } from "./platform.ts";

test.each([
  ["linux/amd64", "linux/amd64"],
  ["linux/x86_64", "linux/amd64"],
  ["Linux/ARM64/v8", "linux/arm64/v8"],
  ["linux/aarch64", "linux/arm64"],
  ["linux/arm/v7", "linux/arm/v7"],
])("parsePlatform() reads %s", (text, normal) => {
  expect(formatPlatform(parsePlatform(text))).toBe(normal);
});

test.each(["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"])(
  "parsePlatform() refuses %j",
  (text) => {
    expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: "usage" }));
  },
);

test.each([
  ["linux/arm64", "linux/arm64/v8", true],
  ["linux/amd64", "linux/amd64/v1", true],
  ["linux/amd64", "linux/amd64/v3", false],
  ["linux/arm", "linux/arm/v7", true],
  ["linux/arm/v6", "linux/arm/v7", false],
  ["linux/amd64", "windows/amd64", false],
  ["linux/amd64", "linux/386", false],
])("platformsMatch() of %s and %s is %s", (wanted, have, match) => {
  expect(platformsMatch(parsePlatform(wanted), parsePlatform(have))).toBe(match);
});

test("hostPlatform() is Linux", () => {
  expect(hostPlatform().os).toBe("linux");
});

test("manifestsFor() keeps the order and leaves out what has no platform", () => {
  const entry = (name: string, platform?: string) => ({
    mediaType: "",
    digest: digestOf(Buffer.from(name)),
    size: 1,
    ...(platform === undefined ? {} : { platform: parsePlatform(platform) }),
  });
  const all = [entry("a"), entry("b", "linux/amd64"), entry("c", "linux/arm64"), entry("d", "linux/amd64")];
  expect(manifestsFor(all, parsePlatform("linux/amd64"))).toEqual([all[1], all[3]]);
});
