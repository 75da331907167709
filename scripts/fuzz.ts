/**
 * The long mode of the tests of damaged images and generated trees: see scripts/fuzz.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { chunkHasher } from "../lib/base/digest.ts";
import { checkImage, type FsVersion, openImage, readTree, writeImage } from "../lib/rafs/image.ts";
import {
  factsOf,
  overTars,
  type Sample as TreeSample,
  treeArbitrary,
} from "../lib/rafs/sample-tree.test-support.ts";
import type { WriteOptions } from "../lib/rafs/writer.ts";
import {
  BesideBootstrap,
  dataEnd,
  KINDS,
  layerOutcome,
  makeSample,
  mutations,
  type Outcome,
  outcome,
  type Sample,
  truncations,
  withBlob,
} from "../tests/support/damage.ts";
import { Random } from "../tests/support/random.ts";

/** Nothing so small may take longer, in milliseconds, even on a busy machine. */
const SLOW = 10_000;
/** Bytes that all may take together. */
const MAX_MEMORY = 2 ** 30;
const TREES = 500;

const [seconds = "300", firstSeed = `${Date.now() % 2 ** 31}`] = process.argv.slice(2);
const end = performance.now() + Number(seconds) * 1000;
const counts = { images: 0, refused: 0, same: 0, trees: 0 };

/** One part of a sample, damaged: other bytes and in other ways with each seed. */
interface Target {
  readonly name: string;
  readonly damaged: Iterable<Uint8Array>;
  readonly judge: (bytes: Uint8Array) => Promise<Outcome>;
}

function* targets(sample: Sample, beside: BesideBootstrap | undefined, random: Random): Generator<Target> {
  const { bootstrap, blob, data } = sample;
  const served = (bytes: Uint8Array): Promise<Outcome> => outcome(sample, bytes, sample.stored);
  yield {
    name: "a byte of the bootstrap",
    damaged: mutations(bootstrap, random, { oneIn: 2 }),
    judge: served,
  };
  yield { name: "a cut bootstrap", damaged: truncations(bootstrap, 4), judge: served };
  const layer = (bytes: Uint8Array): Promise<Outcome> => layerOutcome(sample, bytes);
  yield {
    name: "a byte of the sections",
    damaged: mutations(blob, random, { from: dataEnd(blob), oneIn: 2 }),
    judge: layer,
  };
  yield { name: "a cut blob", damaged: truncations(blob, 16), judge: layer };
  const read = (bytes: Uint8Array): Promise<Outcome> => outcome(sample, bootstrap, withBlob(sample, bytes));
  yield { name: "a byte of the data", damaged: mutations(data, random, { oneIn: 20 }), judge: read };
  if (beside === undefined) return;
  const info = (bytes: Uint8Array): Promise<Outcome> => beside.outcome(bytes);
  yield {
    name: "a byte of the compression information",
    damaged: mutations(beside.info, random, { oneIn: 2 }),
    judge: info,
  };
  yield { name: "cut compression information", damaged: truncations(beside.info, 8), judge: info };
}

async function damageAll(kind: (typeof KINDS)[number], seed: number): Promise<void> {
  const [name, format] = kind;
  const random = new Random(seed);
  const sample = await makeSample(random, format);
  const inUnits = format.ociRef === true || format.batchSize !== undefined;
  using beside = inUnits ? await BesideBootstrap.of(sample) : undefined;
  for (const target of targets(sample, beside, random)) {
    let number = 0;
    for (const bytes of target.damaged) {
      const start = performance.now();
      const found = await target.judge(bytes).catch((error: unknown) => {
        throw new Error(`seed ${seed}, ${name}, ${target.name}, number ${number}`, { cause: error });
      });
      if (performance.now() - start > SLOW)
        throw new Error(`seed ${seed}, ${name}, ${target.name}, number ${number}: slow`);
      counts[found]++;
      number++;
      if (performance.now() > end) return;
    }
  }
  counts.images++;
}

interface WrittenTree {
  readonly root: TreeSample["root"];
  readonly options: WriteOptions;
}

async function roundTrip(tree: WrittenTree, version: FsVersion): Promise<void> {
  const { root } = tree;
  const { digester: _, ...options } = tree.options;
  const image = writeImage(root, { ...options, version, hasher: await chunkHasher("sha256") });
  const violations = await checkImage(image);
  if (violations.length > 0)
    throw new Error(`v${version}: ${violations[0]?.path}: ${violations[0]?.message}`);
  if (!isDeepStrictEqual(factsOf(readTree(openImage(image))), factsOf(root)))
    throw new Error(`v${version}: what is read is not what was written`);
  counts.trees++;
}

async function trees(seed: number): Promise<void> {
  const all = async (sample: TreeSample): Promise<void> => {
    const { root, blobs } = sample;
    await roundTrip({ root, options: blobs.options }, 5);
    await roundTrip({ root, options: blobs.options }, 6);
    await roundTrip(overTars(sample), 6);
  };
  await fc.assert(fc.asyncProperty(treeArbitrary, all), { numRuns: TREES, seed });
}

for (let seed = Number(firstSeed); performance.now() < end; seed++) {
  await trees(seed);
  for (const kind of KINDS) if (performance.now() < end) await damageAll(kind, seed);
  process.stdout.write(`seed ${seed} done: ${JSON.stringify(counts)}\n`);
  const { rss } = process.memoryUsage();
  if (rss > MAX_MEMORY) throw new Error(`seed ${seed}: ${rss} bytes of memory are in use`);
}
