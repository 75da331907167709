import fc from "fast-check";
import { expect, test } from "vitest";
import { isCode } from "../base/error.ts";
import { setReady } from "./ready-map.ts";
import { sampleBlob } from "./sample-blob.test-support.ts";
import { encodeTrace, parseTrace, tracedChunks } from "./trace.ts";
import { TraceRecorder } from "./trace-recorder.ts";

const BLOB = "ab".repeat(32);
const range = fc.record({
  blobId: fc.constantFrom(BLOB, "cd".repeat(32)),
  offset: fc.nat(1e6).map((block) => block * 4096),
  length: fc.integer({ min: 1, max: 1000 }).map((blocks) => blocks * 4096),
});

test("parseTrace() gives back what encodeTrace() wrote", () => {
  fc.assert(
    fc.property(fc.array(range), (trace) => {
      expect(parseTrace(encodeTrace(trace))).toEqual(trace);
    }),
  );
});

test("parseTrace() refuses what is no trace", () => {
  const file = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
  const good = { version: 1, blobs: [BLOB], ranges: [[0, 1, 2]] };
  expect(parseTrace(file(good))).toEqual([{ blobId: BLOB, offset: 4096, length: 8192 }]);
  for (const bad of [
    null,
    [],
    { ...good, version: 2 },
    { ...good, blobs: ["../../etc"] },
    { ...good, blobs: "x" },
    { ...good, ranges: undefined },
    ...[[1, 1, 1], [0, -1, 1], [0, 1, 0], [0, 1.5, 1], [0, 1, 2 ** 33], [0, 1], "x", [0, "1", 1]].map(
      (one) => ({
        ...good,
        ranges: [one],
      }),
    ),
  ])
    expect(() => parseTrace(file(bad)), JSON.stringify(bad)).toThrow(/^Cannot use the trace/);
});

test("parseTrace() never fails in another way, whatever bytes it gets", () => {
  const text = Buffer.from(encodeTrace([{ blobId: BLOB, offset: 0, length: 4096 }]));
  fc.assert(
    fc.property(fc.nat(text.byteLength - 1), fc.nat(255), (at, value) => {
      const bytes = Buffer.from(text);
      bytes[at] = value;
      try {
        parseTrace(bytes);
      } catch (error) {
        expect(isCode(error, "corrupt")).toBe(true);
      }
    }),
  );
});

test("tracedChunks() names each chunk once, in the trace's order, and leaves out what the image lacks", async () => {
  const { map } = await sampleBlob({ chunks: 6, size: 8192 });
  const at = (block: number, blocks: number, blobId = map.blobId) => ({
    blobId,
    offset: block * 4096,
    length: blocks * 4096,
  });
  const chunks = tracedChunks([at(6, 1), at(0, 3), at(1, 1), at(0, 9, BLOB), at(1e6, 1)], [map]);
  expect(chunks.map(({ chunk }) => chunk)).toEqual([3, 0, 1]);
});

test("TraceRecorder.trace() has what was read in the order of asking, without what was only read ahead", async () => {
  const { map } = await sampleBlob({ chunks: 6, size: 8192 });
  const recorder = new TraceRecorder([map]);
  recorder.asked(0, [3, 4, 5]);
  recorder.asked(0, [0, 1]);
  const touched = recorder.touched[0];
  for (const chunk of [0, 2, 3, 4])
    if (touched !== undefined) setReady(touched, chunk * 8192 + 4096, chunk * 8192 + 4097);
  // Chunk 2 was in the cache before; 1 and 5 were read ahead.
  expect(tracedChunks(recorder.trace(), [map]).map(({ chunk }) => chunk)).toEqual([3, 4, 0, 2]);
  expect(recorder.trace()[0]).toMatchObject({ offset: 3 * 8192, length: 2 * 8192 });
});
