/**
 * The library's face: every example runs and prints what it says, every export has a comment and an example, and both
 * manifests name the same dependencies.
 */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as library from "../mod.ts";
import { run } from "./support/process.ts";

const SAMPLE = "sample-image.ts";
const EXAMPLES = readdirSync("examples").filter((name) => name !== SAMPLE);

function textOf(example: string): string {
  return readFileSync(`examples/${example}`, "utf8");
}

/** The comment at the end of an example. */
function promised(example: string): string {
  const [, comment = ""] = textOf(example).split("// Prints:\n");
  return comment.replace(/^\/\/ {0,3}/gm, "");
}

/** What a program imports from the library. */
function imported(text: string): string[] {
  const [, names = ""] = /import \{([^}]*)\} from "\.\.\/mod\.ts"/.exec(text) ?? [];
  return names.split(",").flatMap((name) => name.trim() || []);
}

test.each(EXAMPLES)("examples/%s prints what it says", async (example) => {
  const { stdout } = await run(process.execPath, [`examples/${example}`]);
  expect(promised(example)).not.toBe("");
  expect(stdout).toBe(promised(example));
});

test("every function and class of mod.ts is shown in an example", () => {
  const shown = new Set([...EXAMPLES, SAMPLE].flatMap((example) => imported(textOf(example))));
  expect(Object.keys(library).filter((name) => !shown.has(name))).toEqual([]);
});

test("every export of mod.ts has a comment, and the examples that comments name exist", () => {
  const text = readFileSync("mod.ts", "utf8");
  const bare = text.matchAll(/(?<!\*\/)\nexport [^\n]*/g);
  expect(Array.from(bare, ([line]) => line.trim())).toEqual([]);
  const named = new Set(Array.from(text.matchAll(/examples\/([\w-]+\.ts)/g), ([, name]) => name));
  expect([...named].sort()).toEqual(EXAMPLES.toSorted());
});

test("deno.json, the library's manifest, agrees with package.json", () => {
  const read = (path: string) => JSON.parse(readFileSync(path, "utf8"));
  const [library, program] = [read("deno.json"), read("package.json")];
  const wanted = Object.entries(program.dependencies).map(([name, version]) => [
    name,
    `npm:${name}@${version}`,
  ]);
  expect(library.imports).toEqual(Object.fromEntries(wanted));
  expect(library).toMatchObject({ version: program.version, license: program.license, exports: "./mod.ts" });
});
