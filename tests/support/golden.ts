/**
 * Data that only the project's surroundings have: images that the reference tools wrote. A lone clone does without.
 *
 * Tests that need it have "golden" in their name; `scripts/test` counts any other test that does not run as failed.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { ExpectedEntry } from "./model.ts";
import { run } from "./process.ts";

const PLACE = resolve("../shared/golden");

export const hasGolden: boolean = existsSync(PLACE);

export function golden(...names: string[]): string {
  return [PLACE, ...names].join("/");
}

/** A line of tree.jsonl; text in it is UTF-8 read as UTF-16. */
export interface GoldenLine {
  readonly path: string;
  readonly type: ExpectedEntry["type"];
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  /** Null where it is not determined. */
  readonly mtime: number | null;
  readonly xattrs: Readonly<Record<string, string>>;
  readonly size?: number;
  readonly sha256?: string;
  readonly nlink?: number;
  readonly target?: string;
  readonly rdev?: readonly [number, number];
}

/** The other project's own judge of its own images: differences and a closing count. */
export async function checkGoldenTree(expected: string, directory: string): Promise<string> {
  const output = await run("python3", [golden("check-tree.py"), expected, directory], { mayFail: true });
  return (output.stdout + output.stderr).trim();
}
