/**
 * Root file systems that run, made of this machine's own programs: a program, the libraries that its loader names, and
 * every symbolic link on the way to them.
 *
 * @module
 */
import { existsSync, lstatSync, readdirSync, readlinkSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { run } from "./process.ts";

/** A path and, where a part of it is a symbolic link, that link and where it leads. Absolute, sorted, unique. */
export function withLinks(path: string, found: Set<string> = new Set()): Set<string> {
  let done = "";
  const parts = path.split("/").filter((part) => part !== "");
  for (const [i, part] of parts.entries()) {
    done = `${done}/${part}`;
    if (!lstatSync(done).isSymbolicLink()) continue;
    found.add(done);
    const target = resolve(dirname(done), readlinkSync(done));
    return withLinks(join(target, ...parts.slice(i + 1)), found);
  }
  return found.add(done);
}

/** A program or library with the shared libraries that it needs. */
export async function closureOf(program: string): Promise<string[]> {
  const { stdout } = await run("ldd", [program], { mayFail: true });
  const libraries = stdout.match(/(?<=\s)\/\S+/g) ?? [];
  return [program, ...libraries];
}

/** Regular files and links below a directory. */
export function filesBelow(directory: string): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) found.push(...filesBelow(path));
    else if (entry.isFile() || entry.isSymbolicLink()) found.push(path);
  }
  return found;
}

/** The interpreter that Debian's python3 is, its standard library and what its extension modules need. */
export async function pythonFiles(): Promise<string[]> {
  const python = "/usr/bin/python3";
  const ask = "import sysconfig; print(sysconfig.get_path('stdlib'))";
  const { stdout } = await run(python, ["-S", "-c", ask]);
  const library = stdout.trim();
  const modules = filesBelow(library).filter((path) => !/\/(test|__pycache__|idlelib)\//.test(path));
  const extensions = modules.filter((path) => path.endsWith(".so"));
  const closures = await Promise.all([python, ...extensions].map(closureOf));
  return [...modules, ...closures.flat()];
}

/** Shell tools that a look around needs, as far as this machine has them. */
export async function shellFiles(): Promise<string[]> {
  const tools = [
    "/bin/sh",
    "/bin/cat",
    "/bin/ls",
    "/bin/echo",
    "/usr/bin/env",
    "/usr/bin/sha256sum",
    "/bin/sleep",
  ];
  return (await Promise.all(tools.filter((tool) => existsSync(tool)).map(closureOf))).flat();
}

/** A tar of the given paths and their links, the same bytes whenever the files are the same. */
export async function tarOfMachine(paths: Iterable<string>): Promise<Uint8Array> {
  const all = new Set<string>();
  for (const path of paths) withLinks(path, all);
  const names = [...all].sort().map((path) => path.slice(1));
  const flags = ["--create", "--file=-", "--directory=/", "--no-recursion", "--null", "--files-from=-"];
  const fixed = [
    "--mtime=@1700000000",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    "--format=gnu",
    "--hard-dereference",
  ];
  const tar = Bun.spawn(["tar", ...flags, ...fixed], {
    stdin: Buffer.from(names.map((name) => `${name}\0`).join("")),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [bytes, complaint, code] = await Promise.all([
    new Response(tar.stdout).bytes(),
    new Response(tar.stderr).text(),
    tar.exited,
  ]);
  if (code !== 0) throw new Error(`Cannot pack files of this machine: tar ended with ${code}: ${complaint}`);
  return bytes;
}
