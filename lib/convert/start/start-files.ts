/**
 * Which files an image reads when its container starts, as far as can be told without running it: the command of its
 * entry point, what interprets that, their shared libraries, and what the interpreter reads before the program's first
 * line. The order is that of reading. A guess: whatever it lacks is fetched when it is read.
 *
 * @module
 */
import { byteStringOf } from "../../base/byte-string.ts";
import type { RunConfig } from "../../oci/config.ts";
import type { Directory } from "../../tree/tree.ts";
import { type FoundFile, ImageFiles, type ReadFile } from "./image-files.ts";
import { Libraries } from "./libraries.ts";
import { PythonImports } from "./python.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Words of the entry point that are looked at, and scripts that interpret each other. */
const MAX_WORDS = 64;
const MAX_INTERPRETERS = 5;
/** Bytes of a file of which a start surely reads a part only, and of all files. */
const LARGEST_FILE = 24 << 20;
const MOST = 128 << 20;

/** @param read gives the content of files, where it can be had */
export function startFiles(root: Directory, config: RunConfig | undefined, read: ReadFile): FoundFile[] {
  const search = new StartSearch(new ImageFiles(root, read), config ?? {});
  return search.all();
}

/** Whether the image says what to run. */
export function hasCommand(config: RunConfig | undefined): boolean {
  return strings(config?.Entrypoint).length + strings(config?.Cmd).length > 0;
}

class StartSearch {
  readonly #files: ImageFiles;
  readonly #config: RunConfig;
  readonly #libraries: Libraries;
  readonly #found = new Map<string, FoundFile>();

  constructor(files: ImageFiles, config: RunConfig) {
    this.#files = files;
    this.#config = config;
    this.#libraries = new Libraries(files, this.#variable("LD_LIBRARY_PATH"));
  }

  all(): FoundFile[] {
    for (const word of this.#words()) {
      const file = this.#resolve(word);
      if (file !== undefined) this.#program(file);
    }
    let left = MOST;
    return [...this.#found.values()].filter(({ file: { size } }) => {
      if (size === 0 || size > LARGEST_FILE || size > left) return false;
      left -= size;
      return true;
    });
  }

  /** Of a shell's command line each word may be a command. */
  #words(): string[] {
    const { Entrypoint, Cmd } = this.#config;
    const words = [...strings(Entrypoint), ...strings(Cmd)].flatMap((word) => word.split(/[\s;&|"']+/));
    return words.filter((word) => word !== "" && !word.startsWith("-")).slice(0, MAX_WORDS);
  }

  #variable(name: string): string | undefined {
    const prefix = `${name}=`;
    return strings(this.#config.Env)
      .findLast((entry) => entry.startsWith(prefix))
      ?.slice(prefix.length);
  }

  /** As execvp(3) finds a command, or as a program opens an argument. */
  #resolve(word: string): FoundFile | undefined {
    if (word.startsWith("/")) return this.#files.find(word);
    const { WorkingDir } = this.#config;
    const here = `${typeof WorkingDir === "string" ? byteStringOf(WorkingDir) : ""}/${word}`;
    if (word.includes("/")) return this.#files.find(here);
    for (const directory of (this.#variable("PATH") ?? DEFAULT_PATH).split(":")) {
      const found = directory.startsWith("/") ? this.#files.find(`${directory}/${word}`) : undefined;
      if (found !== undefined && (found.file.attributes.mode & 0o111) !== 0) return found;
    }
    return this.#files.find(here);
  }

  #program(file: FoundFile, depth = 0): void {
    if (this.#found.has(file.path)) return;
    const elf = this.#libraries.parse(file);
    if (elf !== undefined) {
      this.#take(this.#libraries.closureOf(file, elf));
      return this.#python(file, undefined);
    }
    const script = this.#firstLine(file);
    if (depth < MAX_INTERPRETERS)
      for (const interpreter of this.#interpreters(script)) this.#program(interpreter, depth + 1);
    this.#take([file]);
    const python = [...this.#found.values()].findLast(({ path }) => /\/python3\.\d+$/.test(path));
    if (python !== undefined) this.#python(python, file);
  }

  #python(interpreter: FoundFile, program: FoundFile | undefined): void {
    const modules = PythonImports.of(this.#files, interpreter)?.closureOf(program) ?? [];
    for (const module of modules) {
      const elf = module.path.endsWith(".so") ? this.#libraries.parse(module) : undefined;
      this.#take(elf === undefined ? [module] : this.#libraries.closureOf(module, elf));
    }
  }

  #take(files: readonly FoundFile[]): void {
    for (const file of files) if (!this.#found.has(file.path)) this.#found.set(file.path, file);
  }

  #firstLine({ file }: FoundFile): string {
    const bytes = this.#files.read(file, 0, 256);
    return bytes === undefined ? "" : (Buffer.from(bytes).toString("latin1").split("\n")[0] ?? "");
  }

  /** "#!/usr/bin/env python3" has two. */
  #interpreters(line: string): FoundFile[] {
    if (!line.startsWith("#!")) return [];
    const words = line
      .slice(2)
      .trim()
      .split(/\s+/)
      .filter((word) => !word.startsWith("-"));
    const used = words[0]?.endsWith("/env") === true ? words.slice(0, 2) : words.slice(0, 1);
    return used.flatMap((word) => this.#resolve(word) ?? []);
  }
}

/** The config is an image's: what is no list of texts is none. As byte strings, which paths in images are. */
function strings(value: unknown): string[] {
  return Array.isArray(value)
    ? value.flatMap((item) => (typeof item === "string" ? [byteStringOf(item)] : []))
    : [];
}
