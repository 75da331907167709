/**
 * A sample image from this machine's own files: a shell, a language runtime that can be run, and enough other files to
 * make it at least 200 MB. An ordinary OCI image with three gzip layers.
 *
 * usage: bun scripts/make-sample-image.ts DIR      leaves the layout DIR with tag "sample"; prints what to run in it
 *
 * @module
 */
import { existsSync, statSync } from "node:fs";
import {
  closureOf,
  filesBelow,
  pythonFiles,
  shellFiles,
  tarOfMachine,
} from "../tests/support/machine-files.ts";
import { writeLayout } from "../tests/support/oci-layout.ts";

/** Bytes of all layers before compression. */
const WANTED = 220e6;
const PLACES = ["/usr/lib", "/usr/bin", "/usr/share", "/usr/local", "/opt", "/usr/include"];

interface Program {
  /** Argument vector of something to run in the image; short, and it prints a line. */
  readonly command: readonly string[];
  readonly files: readonly string[];
}

async function pythonProgram(): Promise<Program | undefined> {
  if (!existsSync("/usr/bin/python3")) return undefined;
  const script =
    "import json, sys, sqlite3, decimal; print(json.dumps({'hello from': 'python ' + sys.version.split()[0]}))";
  return { command: ["/usr/bin/python3", "-S", "-c", script], files: await pythonFiles() };
}

/** Node is what builds this project, so it is there. */
async function nodeProgram(): Promise<Program> {
  const node = Bun.which("node") ?? "/usr/bin/node";
  const script = "console.log(JSON.stringify({ 'hello from': 'node ' + process.version }))";
  return { command: [node, "-e", script], files: await closureOf(node) };
}

/** Files in a fixed order until there are enough bytes; what the layers below have is left out. */
function fillers(taken: ReadonlySet<string>, wanted: number): string[] {
  const chosen: string[] = [];
  let bytes = 0;
  for (const path of PLACES.filter((place) => existsSync(place)).flatMap((place) =>
    filesBelow(place).sort(),
  )) {
    if (bytes >= wanted) break;
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    // A file of half the image would make a dull sample.
    if (size === undefined || size > wanted / 2 || taken.has(path)) continue;
    chosen.push(path);
    bytes += size;
  }
  return chosen;
}

async function main(directory: string): Promise<void> {
  const program = (await pythonProgram().catch(() => undefined)) ?? (await nodeProgram());
  const lists = [await shellFiles(), program.files];
  const layers = await Promise.all(lists.map(tarOfMachine));
  const sofar = layers.reduce((total, layer) => total + layer.byteLength, 0);
  layers.push(await tarOfMachine(fillers(new Set(lists.flat()), WANTED - sofar)));
  const total = layers.reduce((sum, layer) => sum + layer.byteLength, 0);
  if (total < 200e6) process.stderr.write(`This machine has few files: the sample is only ${total} bytes\n`);
  await writeLayout(directory, layers, {
    tag: "sample",
    config: { Cmd: program.command, Env: ["PATH=/usr/bin:/bin"] },
  });
  process.stdout.write(`${JSON.stringify({ command: program.command, bytes: total })}\n`);
}

const [directory] = process.argv.slice(2);
if (directory === undefined) {
  process.stderr.write("usage: bun scripts/make-sample-image.ts DIR\n");
  process.exit(2);
}
await main(directory);
