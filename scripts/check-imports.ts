/**
 * Checks the import rule of docs/design.md: `mod.ts -> cmd -> lib -> ffi`, and inside `lib` only towards lower ranks.
 * The type-only exception is none: a type is a dependency too.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

/** Low to high; places of one rank do not import each other. */
const RANKS: readonly (readonly string[])[] = [
  ["ffi"],
  ["lib/base"],
  ["lib/http2", "lib/oci", "lib/tar", "lib/tree"],
  ["lib/content", "lib/rafs"],
  ["lib/registry", "lib/containerd", "lib/blob"],
  ["lib/image", "lib/credentials"],
  ["lib/inspect", "lib/unpack"],
  ["lib/convert", "lib/mount"],
  ["lib/layers"],
  ["lib/snapshot"],
  ["lib/setup", "lib/status"],
  ["cmd"],
  ["mod.ts"],
];

function placeOf(file: string): string {
  return RANKS.flat().find((place) => file === place || file.startsWith(`${place}/`)) ?? "";
}

function rankOf(place: string): number {
  return RANKS.findIndex((places) => places.includes(place));
}

export function violation(from: string, to: string): string | undefined {
  const [a, b] = [placeOf(from), placeOf(to)];
  if (a === "" || a === b) return undefined;
  if (b === "") return `Cannot import ${to} from ${from}: it is outside the layout`;
  if (rankOf(b) < rankOf(a)) return undefined;
  return `Cannot import ${to} from ${from}: ${b} does not rank below ${a}`;
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, "utf8");
  const paths = [...text.matchAll(/(?:from|import|import\()\s*"(\.[^"]+\.ts)"/g)].flatMap((m) => m[1] ?? []);
  return paths.map((path) => normalize(join(dirname(file), path)));
}

if (import.meta.main) {
  const files = [...new Bun.Glob("{cmd,lib,ffi}/**/*.ts").scanSync("."), "mod.ts"].filter(
    (f) => !f.endsWith(".test.ts"),
  );
  const problems = files.flatMap((file) => importsOf(file).flatMap((to) => violation(file, to) ?? []));
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  process.stdout.write(`import rule: ${files.length} files, ${problems.length} problems\n`);
  process.exit(problems.length > 0 ? 1 : 0);
}
