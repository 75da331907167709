/**
 * Compares a directory with the tree it must show, in a process of its own.
 *
 * @module
 */
import { writeFile } from "node:fs/promises";
import type { ExpectedEntry } from "./model.ts";
import { run } from "./process.ts";

/** JSON lines in ASCII. */
export async function writeExpected(file: string, tree: readonly ExpectedEntry[]): Promise<void> {
  const escaped = (text: string): string =>
    text.replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  await writeFile(file, tree.map((entry) => `${escaped(JSON.stringify(entry))}\n`).join(""));
}

export interface CheckOptions {
  /** Threads that read files at the same time. */
  readonly readers?: number;
  /** Fields of no interest: "mtime", "link". */
  readonly skip?: readonly string[];
}

/** The differences, one a line, and a closing count: "7 entries wanted, 7 found, 0 differences". */
export async function checkTree(
  expected: string,
  directory: string,
  options: CheckOptions = {},
): Promise<string> {
  const script = new URL("./check-tree.py", import.meta.url).pathname;
  const flags = ["--readers", String(options.readers ?? 4), "--skip", (options.skip ?? []).join(",")];
  const output = await run("python3", [script, expected, directory, ...flags], { mayFail: true });
  return (output.stdout + output.stderr).trim();
}
