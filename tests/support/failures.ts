/**
 * What the built program does when it cannot do what it is asked to: one line, the exit code of its kind, nothing
 * half-written.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { expect } from "vitest";
import { MEANINGS } from "../../lib/base/error.ts";
import type { Output } from "./process.ts";

/** `nydus-tool: Cannot <verb> ...: <state>`, and not a word more. */
const ONE_LINE = /^nydus-tool: Cannot [^\n]+: [^\n]+\n$/;
export function expectFailure(output: Output, kind: keyof typeof MEANINGS): void {
  // Progress of what went well before may stand above the last line.
  expect(output.stderr.split("\n").slice(-2).join("\n")).toMatch(ONE_LINE);
  expect(output.stderr).not.toContain("    at ");
  expect(output.code, output.stderr).toBe(MEANINGS[kind].exit);
}

/** A layout has either no file under a digest's name, or the whole of it, and no tag for what failed. */
export async function expectNothingHalfWritten(layout: string): Promise<void> {
  if (!existsSync(layout)) return;
  const directory = `${layout}/blobs/sha256`;
  for (const name of existsSync(directory) ? await readdir(directory) : []) {
    if (!/^[0-9a-f]{64}$/.test(name)) continue;
    const hash = new Bun.CryptoHasher("sha256").update(await readFile(`${directory}/${name}`));
    expect(hash.digest("hex")).toBe(name);
  }
  const index = existsSync(`${layout}/index.json`) ? await readFile(`${layout}/index.json`, "utf8") : "{}";
  expect((JSON.parse(index) as { manifests?: unknown[] }).manifests ?? []).toEqual([]);
}
