import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { syscallApart } from "./apart.ts";
import { cString } from "./libc.ts";

const SYS =
  process.arch === "arm64" ? { getpid: 172, mkdirat: 34, close: 57 } : { getpid: 39, mkdirat: 258, close: 3 };
const AT_FDCWD = -100;

test("syscallApart() makes the call, and says what the kernel answers", () => {
  const directory = mkdtempSync(join(tmpdir(), "nt-apart-"));
  try {
    const path = cString(join(directory, "made"));
    expect(syscallApart(0, SYS.mkdirat, AT_FDCWD, path, 0o700)).toBe(0);
    expect(syscallApart(0, SYS.mkdirat, AT_FDCWD, path, 0o700)).toBe(-17); // EEXIST
    expect(syscallApart(0, SYS.getpid)).toBe(0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("syscallApart() has no descriptors but the one that is kept", () => {
  expect(syscallApart(4, SYS.close, 3)).toBe(-9); // EBADF
  expect(syscallApart(4, SYS.close, 5)).toBe(-9);
  expect(syscallApart(2, SYS.close, 2)).toBe(0);
});
