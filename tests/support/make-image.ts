/**
 * Makes three-layer images full of awkward entries, any number of them from seeds. The first layer holds one of each
 * kind of awkwardness; the next two are what a series of random changes leaves of the tree, each kind of change at
 * least once.
 *
 * @module
 */
import { CHANGES } from "./changes.ts";
import { firstTree } from "./first-tree.ts";
import {
  diffLayer,
  type ExpectedEntry,
  expectedTree,
  isInside,
  type Model,
  type ModelNode,
} from "./model.ts";
import { Random } from "./random.ts";
import type { TarItem } from "./tar-builder.ts";

export interface MadeImage {
  readonly layers: readonly (readonly TarItem[])[];
  /** Sorted by path. */
  readonly tree: readonly ExpectedEntry[];
}

const EXTRA_CHANGES = 30;

export function makeImage(seed: number): MadeImage {
  const random = new Random(seed);
  const models: Model[] = [new Map(), firstTree(random)];
  for (let layer = 1; layer < 3; layer++) models.push(changed(models[layer] ?? new Map(), random));
  const layers = models.slice(1).map((upper, i) => diffLayer(models[i] ?? new Map(), upper, random));
  const last = models.at(-1) ?? new Map();
  return { layers: layers.map((layer) => [...layer, strayWhiteout(random)]), tree: expectedTree(last) };
}

/** Real layers delete what never was. */
function strayWhiteout(random: Random): TarItem {
  return { path: `.wh.${random.name(12)}`, type: "file", mode: 0 };
}

function changed(lower: Model, random: Random): Model {
  const tree = new Map(lower);
  const extra = Array.from({ length: EXTRA_CHANGES }, () => random.pick(CHANGES));
  for (const change of random.shuffled([...CHANGES, ...extra])) change({ tree, lower, random });
  dropHollow(tree, lower);
  return tree;
}

/** A directory that no entry mentions exists only through what is in it. */
function dropHollow(tree: Map<string, ModelNode>, lower: Model): void {
  for (const path of [...tree.keys()].toSorted().reverse()) {
    if (tree.get(path)?.implicit !== true || lower.has(path)) continue;
    if (![...tree.keys()].some((other) => isInside(other, path))) tree.delete(path);
  }
}
