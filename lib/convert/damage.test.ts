import { describe, expect, test } from "vitest";
import {
  BesideBootstrap,
  dataEnd,
  KINDS,
  layerOutcome,
  makeSample,
  mutations,
  outcome,
  outcomes,
  truncations,
  withBlob,
} from "../../tests/support/damage.ts";
import { Random } from "../../tests/support/random.ts";

// A part of all damage; scripts/fuzz does all of it. Nothing but the two outcomes passes: the judges throw.

const WITH_UNITS = KINDS.filter(([, { ociRef, batchSize }]) => ociRef === true || batchSize !== undefined);
const WITH_BLOB = KINDS.filter(([, { external }]) => external !== true);
const SECONDS = { timeout: 120_000 };

describe.each(KINDS)("a damaged image, %s,", (kind, format) => {
  test("gives errors or its own bytes, whichever byte of its bootstrap changes", SECONDS, async () => {
    const random = new Random(kind.length);
    const sample = await makeSample(random, format);
    const changed = mutations(sample.bootstrap, random, { oneIn: 6 });
    const found = await outcomes(changed, (bytes) => outcome(sample, bytes, sample.stored));
    expect(found.refused).toBeGreaterThan(50);
  });

  test("is refused when its bootstrap is cut", SECONDS, async () => {
    const sample = await makeSample(new Random(1), format);
    const cut = truncations(sample.bootstrap, 64);
    const found = await outcomes(cut, (bytes) => outcome(sample, bytes, sample.stored));
    expect(found.same).toBe(0);
  });

  test("gives errors or its own bytes, whichever byte of its data changes", SECONDS, async () => {
    const random = new Random(2);
    const sample = await makeSample(random, format);
    const judge = (bytes: Uint8Array) => outcome(sample, sample.bootstrap, withBlob(sample, bytes));
    const found = await outcomes(mutations(sample.data, random, { oneIn: 200 }), judge);
    expect(found.refused).toBeGreaterThan(20);
    await outcomes(truncations(sample.data, 1024), judge);
  });
});

describe.each(WITH_BLOB)("a damaged blob, %s,", (_, format) => {
  test("gives the layer's bootstrap or none, whichever byte around it changes", SECONDS, async () => {
    const random = new Random(3);
    const sample = await makeSample(random, format);
    const from = dataEnd(sample.blob);
    const changed = mutations(sample.blob, random, { from, oneIn: 5 });
    const found = await outcomes(changed, (bytes) => layerOutcome(sample, bytes));
    expect(found.refused).toBeGreaterThan(20);
    const cut = await outcomes(truncations(sample.blob, 256), (bytes) => layerOutcome(sample, bytes));
    expect(cut.same).toBe(0);
  });
});

describe.each(WITH_UNITS)("damaged compression information, %s,", (_, format) => {
  test("gives errors or the true bytes, whichever byte changes or wherever it ends", SECONDS, async () => {
    const random = new Random(4);
    const sample = await makeSample(random, format);
    using beside = await BesideBootstrap.of(sample);
    expect(await beside.outcome(beside.info)).toBe("same");
    const found = await outcomes(mutations(beside.info, random, { oneIn: 3 }), (bytes) =>
      beside.outcome(bytes),
    );
    expect(found.refused).toBeGreaterThan(20);
    expect((await outcomes(truncations(beside.info, 32), (bytes) => beside.outcome(bytes))).same).toBe(0);
  });
});
