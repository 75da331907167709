import { constants, deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Inflater } from "./inflate.ts";

/** All output, with the input in pieces of `piece` bytes and pauses every `pause` bytes of output. */
function inflate(input: Uint8Array, size: number, piece = 1 << 20, pause = 1 << 20): Uint8Array {
  const out = new Uint8Array(size + 258);
  const inflater = new Inflater(out, 0, Math.min(pause, size));
  let at = Math.min(piece, input.byteLength);
  inflater.feed(input.subarray(0, at), at === input.byteLength);
  let start = 0;
  for (;;) {
    const step = inflater.step();
    if (step === "end") return out.subarray(0, inflater.outPosition);
    if (step === "output") {
      if (inflater.outPosition > size) throw new Error("more output than expected");
      inflater.stop = Math.min(inflater.outPosition + pause, size + 1);
    }
    if (step === "input") {
      start += inflater.inPosition;
      at = Math.min(at + piece, input.byteLength);
      inflater.feed(input.subarray(start, at), at === input.byteLength);
    }
  }
}

const text = Buffer.from("the quick brown fox jumps over the lazy dog; ".repeat(400));
const noise = Uint8Array.from({ length: 70_000 }, (_, i) => (Math.imul(i, 2654435761) >>> 13) & 0xff);
const mixed = Buffer.concat([text, noise, text, new Uint8Array(300_000), noise]);

describe("Inflater", () => {
  test.each([0, 1, 6, 9])("gives what deflate level %d took", (level) => {
    const stored = deflateRawSync(mixed, { level });
    expect(Buffer.from(inflate(stored, mixed.byteLength)).equals(mixed)).toBe(true);
  });

  test("knows fixed codes, and codes for literals only", () => {
    for (const strategy of [constants.Z_FIXED, constants.Z_HUFFMAN_ONLY, constants.Z_RLE]) {
      const stored = deflateRawSync(mixed, { strategy });
      expect(Buffer.from(inflate(stored, mixed.byteLength)).equals(mixed)).toBe(true);
    }
  });

  test("does not mind how input and output are cut", () => {
    const stored = deflateRawSync(mixed);
    for (const piece of [700, 1000, 4097])
      for (const pause of [1, 300, 4096])
        expect(Buffer.from(inflate(stored, mixed.byteLength, piece, pause)).equals(mixed)).toBe(true);
  });

  test("agrees with deflate about any data", () => {
    const bytes = fc.array(fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.integer({ min: 1, max: 60 })));
    fc.assert(
      fc.property(bytes, fc.integer({ min: 0, max: 9 }), (runs, level) => {
        const data = Buffer.concat(runs.flatMap(([run, times]) => Array<Uint8Array>(times).fill(run)));
        const out = inflate(deflateRawSync(data, { level }), data.byteLength);
        expect(Buffer.from(out).equals(data)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test("damaged input gives an error or other bytes, and always ends", () => {
    const stored = deflateRawSync(Buffer.concat([text, noise.subarray(0, 3000)]));
    fc.assert(
      fc.property(fc.nat(stored.length - 1), fc.nat(255), fc.nat(stored.length), (at, value, cut) => {
        const damaged = Uint8Array.from(stored).subarray(0, cut);
        damaged[at] = value;
        try {
          inflate(damaged, text.length + 3000);
        } catch (error) {
          expect((error as Error).message).toMatch(/^(?:Cannot inflate: |more output than expected)/);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("an end that is cut off is an error at every length", () => {
    const stored = deflateRawSync(text);
    for (let cut = 0; cut < stored.length; cut++)
      expect(() => inflate(stored.subarray(0, cut), text.length)).toThrow("Cannot inflate");
  });
});
