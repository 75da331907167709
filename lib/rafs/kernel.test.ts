import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../../tests/support/process.ts";
import { countLinks } from "../tree/dump.ts";
import type { Directory, Node } from "../tree/tree.ts";
import { openBootstrap } from "./bootstrap.ts";
import { TYPE_BITS } from "./inode.ts";
import { overTars, type Sample, sampleTree } from "./sample-tree.test-support.ts";
import { writeBootstrap } from "./writer.ts";

// Judges that this project did not write: the kernel's EROFS, asked from other processes, and fsck.erofs.

let dir: string;
let sample: Sample;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "rafs-kernel-"));
  sample = sampleTree();
  const bytes = writeBootstrap(sample.root, sample.blobs.options);
  writeFileSync(join(dir, "bootstrap"), bytes);
  openBootstrap(bytes).blobs.forEach(({ uncompressedSize }, i) => {
    writeFileSync(join(dir, `device${i}`), new Uint8Array(uncompressedSize));
  });
  const { root, options } = overTars(sample);
  writeFileSync(join(dir, "tarfs"), writeBootstrap(root, options));
  mkdirSync(join(dir, "mnt"));
});

afterAll(() => rmSync(dir, { recursive: true }));

async function mounted<T>(work: (path: string) => T, bootstrap = "bootstrap"): Promise<T> {
  const path = join(dir, "mnt");
  await run("mount", ["-t", "erofs", "-o", "loop,ro", join(dir, bootstrap), path]);
  try {
    return work(path);
  } finally {
    await run("umount", [path]);
  }
}

/** Paths with their nodes; the root is ".". */
function* walk(node: Node, path = "."): Generator<[path: string, node: Node]> {
  yield [path, node];
  if (node.kind === "directory")
    for (const [name, child] of node.entries) yield* walk(child, `${path}/${name}`);
}

const FIELDS = "%p\\t%y\\t%m\\t%U:%G\\t%T@\\t%s\\t%n\\t%l\\0";
const LETTERS = { directory: "d", file: "f", symlink: "l", char: "c", block: "b", fifo: "p", socket: "s" };

function sizeOf(node: Node): number {
  return node.kind === "file" ? node.size : node.kind === "symlink" ? node.target.length : 0;
}

function expectedLines(root: Directory): string[] {
  const links = countLinks(root);
  return [...walk(root)].map(([path, node]) => {
    const { mode, uid, gid, mtime, mtimeNs } = node.attributes;
    const time = `${mtime}.${String(mtimeNs).padStart(9, "0")}0`;
    const directories =
      node.kind === "directory"
        ? [...node.entries.values()].filter(({ kind }) => kind === "directory").length
        : 0;
    const nlink = node.kind === "directory" ? 2 + directories : (links.get(node) ?? 0);
    const target = node.kind === "symlink" ? node.target : "";
    const size = node.kind === "directory" ? "-" : sizeOf(node);
    return [path, LETTERS[node.kind], mode.toString(8), `${uid}:${gid}`, time, size, nlink, target].join(
      "\t",
    );
  });
}

test.each(["bootstrap", "tarfs"])("the kernel shows what writeBootstrap() was given as %s", async (name) => {
  const output = await mounted((cwd) => execFileSync("find", [".", "-printf", FIELDS], { cwd }), name);
  const lines = output
    .toString("latin1")
    .split("\0")
    .filter((line) => line !== "")
    .map((line) => line.replace(/^([^\t]*\td\t[^\t]*\t[^\t]*\t[^\t]*\t)\d+/, "$1-"));
  expect(lines.toSorted()).toEqual(expectedLines(sample.root).toSorted());
});

test("the kernel shows the devices and xattrs that writeBootstrap() was given", async () => {
  const [stats, xattrs] = await mounted((cwd) => [
    execFileSync("stat", ["-c", "%n %t:%T %f", "char", "block"], { cwd }).toString(),
    execFileSync("getfattr", ["-d", "-m", "-", "-e", "hex", "many", "capable"], {
      cwd,
      stdio: "pipe",
    }).toString(),
  ]);
  const hex = (value: number): string => value.toString(16);
  expect(stats).toBe(
    [
      `char ${hex(511)}:${hex(70_000)} ${hex(TYPE_BITS.char | 0o644)}`,
      `block ${hex(7)}:${hex(9)} ${hex(TYPE_BITS.block | 0o644)}`,
      "",
    ].join("\n"),
  );
  // Whether this kernel also knows ACLs is its own business.
  const lines = xattrs.split("\n").filter((line) => !line.startsWith("system."));
  const values = [
    "security.capability=0x010000020a040000000000008000000000000000",
    "trusted.binary=0x000aff80",
    "user.note=0x",
    "",
  ];
  expect(lines).toEqual(["# file: many", ...values, "# file: capable", ...values, ""]);
});

test("fsck.erofs finds nothing wrong with what writeBootstrap() wrote", async () => {
  const devices = [0, 1].map((i) => `--device=${join(dir, `device${i}`)}`);
  const { stdout, stderr } = await run("fsck.erofs", [...devices, join(dir, "bootstrap")]);
  expect(stdout + stderr).not.toMatch(/<E>|error/i);
});
