import { describe, expect, test } from "vitest";
import { KINDS, makeSample, mutations, outcome, outcomes, withBlob } from "../../tests/support/damage.ts";
import { Random } from "../../tests/support/random.ts";
import { chunkHasher } from "../base/digest.ts";
import { viewOf } from "../base/struct.ts";
import { chunkRecord } from "../rafs/chunk-record.ts";
import { examineImage, openImage, readTree, writeImage } from "../rafs/image.ts";
import { EXTENSION_OFFSET, extension } from "../rafs/superblock.ts";

// In tarfs no chunk is in the table; of external files all are.
const V6 = KINDS.filter(
  ([, { fsVersion, tarfs, external }]) => fsVersion !== 5 && tarfs !== true && external !== true,
);

/** With the first records of the chunk table only. */
function shortened(bootstrap: Uint8Array, records: number): Uint8Array {
  const copy = bootstrap.slice();
  extension.fields.chunkTableSize.write(viewOf(copy), EXTENSION_OFFSET, records * chunkRecord.size);
  return copy;
}

describe.each(V6)("an image without a complete chunk table, %s,", (_, format) => {
  test.each([0, 3])("gives its own bytes with %i records", async (records) => {
    const sample = await makeSample(new Random(1), format);
    const bootstrap = shortened(sample.bootstrap, records);
    expect(await examineImage(bootstrap)).toEqual({ violations: [], chunkTableComplete: false });
    expect(await outcome(sample, bootstrap, sample.stored)).toBe("same");
  });

  test("is refused with a blob that is not the one it was made of", async () => {
    const random = new Random(2);
    const sample = await makeSample(random, format);
    const bootstrap = shortened(sample.bootstrap, 0);
    const damaged = [...mutations(sample.data, random, { oneIn: 300 })];
    expect(damaged.length).toBeGreaterThan(5);
    const judge = (bytes: Uint8Array) => outcome(sample, bootstrap, withBlob(sample, bytes));
    expect((await outcomes(damaged, judge)).same).toBe(0);
  });

  test("is refused or gives its own bytes, whichever byte of its bootstrap changes", async () => {
    const random = new Random(3);
    const sample = await makeSample(random, format);
    const damaged = mutations(shortened(sample.bootstrap, 2), random, { oneIn: 20 });
    await outcomes(damaged, (bytes) => outcome(sample, bytes, sample.stored));
  });

  test("cannot be written again, for its digests are not known", async () => {
    const sample = await makeSample(new Random(4), format);
    const image = openImage(shortened(sample.bootstrap, 0));
    const hasher = await chunkHasher("sha256");
    const options = { version: 6, hasher, chunkSize: 4096, compressor: "none" } as const;
    const [blob] = image.version === 6 ? image.blobs : [];
    const write = (): Uint8Array =>
      writeImage(readTree(image), { ...options, blobs: () => blob ?? expect.fail("no blob") });
    expect(write).toThrow("comes from a bootstrap without its digest");
  });
});
