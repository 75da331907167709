/**
 * Versions of one base image, each a whole layer of its own: what a distribution publishes every few weeks. Most files
 * stay, some are rebuilt, a few come and go.
 *
 * @module
 */
import { Random } from "./random.ts";
import type { TarItem } from "./tar-builder.ts";

export interface VersionOptions {
  readonly versions: number;
  readonly files: number;
}

/** Share of the files that a version replaces. */
const CHANGED = 0.04;
const DAY = 86_400;

/** One layer a version, the same for the same seed. */
export function makeVersions(seed: number, { versions, files }: VersionOptions): TarItem[][] {
  const random = new Random(seed);
  const base = Array.from({ length: files }, (_, i) => fileOf(i, 1_700_000_000, random));
  const all = [base];
  for (let version = 1; version < versions; version++)
    all.push(nextVersion(all.at(-1) ?? [], 1_700_000_000 + 30 * DAY * version, random));
  return all.map((items) => [...directories(), ...items]);
}

function directories(): TarItem[] {
  const paths = ["usr", "usr/lib", ...Array.from({ length: 16 }, (_, i) => `usr/lib/d${i}`)];
  return paths.map((path) => ({ path, type: "dir", mode: 0o755, mtime: 1_700_000_000 }));
}

function fileOf(number: number, mtime: number, random: Random): TarItem {
  // Mostly small, a few large, as in a distribution; half of it programs, which compress to half.
  const size = random.chance(0.02) ? random.between(100_000, 400_000) : random.between(200, 12_000);
  const data = Buffer.concat([random.prose(size >> 1), random.noise(size >> 1)]);
  return { path: `usr/lib/d${number % 16}/f${number}`, type: "file", mode: 0o644, mtime, data };
}

function nextVersion(items: readonly TarItem[], mtime: number, random: Random): TarItem[] {
  const changed = items.map((item, i) => (random.chance(CHANGED) ? fileOf(i, mtime, random) : item));
  const added = Array.from({ length: 3 }, (_, i) => fileOf(items.length + i, mtime, random));
  return [...changed.slice(0, -1), ...added];
}
