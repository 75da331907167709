import { expect, test } from "vitest";
import { violation } from "./check-imports.ts";

const allowed = [
  ["cmd/mount.ts", "lib/mount/client.ts"],
  ["lib/mount/client.ts", "lib/image/open.ts"],
  ["lib/image/open.ts", "lib/registry/store.ts"],
  ["lib/rafs/writer.ts", "lib/rafs/inode.ts"],
  ["lib/base/error.ts", "ffi/libc.ts"],
  ["mod.ts", "cmd/main.ts"],
] as const;

const forbidden = [
  ["lib/base/error.ts", "lib/oci/manifest.ts", "a lower place imports a higher one"],
  ["lib/tar/reader.ts", "lib/tree/tree.ts", "places of one rank import each other"],
  ["ffi/libc.ts", "lib/base/error.ts", "ffi imports something of ours"],
  ["lib/convert/image.ts", "cmd/main.ts", "lib imports a verb"],
  ["lib/mount/driver.ts", "lib/convert/image.ts", "two top parts know each other"],
  ["lib/oci/manifest.ts", "tests/support/golden.ts", "the target is outside the layout"],
] as const;

test.each(allowed)("violation() lets %s import %s", (from, to) => {
  expect(violation(from, to)).toBeUndefined();
});

test.each(forbidden)("violation() refuses %s -> %s: %s", (from, to) => {
  expect(violation(from, to)).toContain(`Cannot import ${to} from ${from}: `);
});

test("violation() does not look at files outside the layout", () => {
  expect(violation("tests/mount.test.ts", "cmd/main.ts")).toBeUndefined();
});
