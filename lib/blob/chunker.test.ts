import fc from "fast-check";
import { expect, test } from "vitest";
import { chunksOf } from "./chunker.ts";

async function* pieces(list: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* list;
}

async function cut(list: readonly Uint8Array[], size: number, chunkSize: number): Promise<Uint8Array[]> {
  return Array.fromAsync(chunksOf(pieces(list), size, chunkSize));
}

test("chunksOf() cuts any pieces into whole chunks and a rest", async () => {
  const piece = fc.uint8Array({ maxLength: 50 });
  await fc.assert(
    fc.asyncProperty(fc.array(piece), fc.integer({ min: 1, max: 40 }), async (list, chunkSize) => {
      const whole = new Uint8Array(Buffer.concat(list));
      const chunks = await cut(list, whole.byteLength, chunkSize);
      expect(new Uint8Array(Buffer.concat(chunks))).toEqual(whole);
      expect(chunks.length).toBe(Math.ceil(whole.byteLength / chunkSize));
      for (const chunk of chunks.slice(0, -1)) expect(chunk.byteLength).toBe(chunkSize);
    }),
  );
});

test("chunksOf() copies nothing when a chunk comes in one piece", async () => {
  const memory = new Uint8Array(100);
  const chunks = await cut([memory], 100, 40);
  expect(chunks.every((chunk) => chunk.buffer === memory.buffer)).toBe(true);
});

test("chunksOf() gives a chunk of two pieces memory of its own", async () => {
  const [first, second] = await cut([Uint8Array.of(1), Uint8Array.of(2, 3), Uint8Array.of(4)], 4, 2);
  expect(first).toEqual(Uint8Array.of(1, 2));
  expect(second).toEqual(Uint8Array.of(3, 4));
  expect(first?.buffer).not.toBe(second?.buffer);
});

test("chunksOf() refuses a source longer or shorter than its size", async () => {
  await expect(cut([new Uint8Array(5)], 4, 4)).rejects.toThrow("it goes on after 4 bytes");
  await expect(cut([new Uint8Array(1)], 0, 4)).rejects.toThrow("it goes on after 0 bytes");
  await expect(cut([new Uint8Array(5)], 7, 4)).rejects.toThrow("it ends after 5 bytes");
});
