import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { sampleElf } from "./elf.test-support.ts";
import { parseElf, type ReadAt } from "./elf.ts";

const reading =
  (bytes: Uint8Array): ReadAt =>
  (offset, length) =>
    bytes.subarray(offset, offset + length);

test("parseElf() reads interpreter, libraries and paths", () => {
  const file = sampleElf({
    interpreter: "/lib/ld.so",
    needed: ["a.so", "b.so"],
    rpath: "/r",
    runpath: "/x:/y",
  });
  expect(parseElf(reading(file))).toEqual({
    kind: "2 1 62",
    interpreter: "/lib/ld.so",
    needed: ["a.so", "b.so"],
    rpath: ["/r"],
    runpath: ["/x", "/y"],
  });
});

test("parseElf() reads a program of this machine", () => {
  const elf = parseElf(reading(readFileSync("/bin/ls")));
  expect(elf?.interpreter).toMatch(/^\/lib/);
  expect(elf?.needed).toContain("libc.so.6");
});

test("parseElf() takes nothing that is no ELF file", () => {
  for (const text of ["", "#!/bin/sh\n", "\x7fELF", `\x7fELF\x03\x01${"\0".repeat(64)}`])
    expect(parseElf(reading(Buffer.from(text, "latin1")))).toBeUndefined();
  expect(parseElf(() => undefined)).toBeUndefined();
});

test("parseElf() bears whatever the fields say, and asks for bounded parts", () => {
  const sample = sampleElf({ interpreter: "/lib/ld.so", needed: ["a.so"], runpath: "/x" });
  const changes = fc.array(fc.tuple(fc.nat(sample.byteLength - 1), fc.nat(255)), { maxLength: 40 });
  fc.assert(
    fc.property(changes, (bytes) => {
      const file = Uint8Array.from(sample);
      for (const [at, value] of bytes) if (at >= 6) file[at] = value;
      let asked = 0;
      parseElf((offset, length) => {
        asked += length;
        return file.subarray(offset, offset + length);
      });
      expect(asked).toBeLessThan(16 << 20);
    }),
    { numRuns: 500 },
  );
});
