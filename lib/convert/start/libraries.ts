/**
 * The shared libraries that the loader would load for a program, looked for where it looks. Rules: ld.so(8), and for
 * musl its dynlink: LD_LIBRARY_PATH, the object's own paths, what /etc configures, then the system's directories.
 *
 * @module
 */
import { type Elf, parseElf } from "./elf.ts";
import { directoryOf, type FoundFile, type ImageFiles } from "./image-files.ts";

const SYSTEM = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"];
const CONFIG = "/etc/ld.so.conf";
const CACHE = "/etc/ld.so.cache";
/** Bounds for hostile configurations and libraries. */
const MAX_CONFIG_FILES = 64;
const MAX_DIRECTORIES = 256;
const MAX_LIBRARIES = 1000;

export class Libraries {
  readonly #files: ImageFiles;
  readonly #environment: readonly string[];
  #configured: readonly string[] | undefined;

  /** @param searchPath LD_LIBRARY_PATH of the image */
  constructor(files: ImageFiles, searchPath: string | undefined) {
    this.#files = files;
    this.#environment = (searchPath ?? "").split(":").filter((path) => path.startsWith("/"));
  }

  /** The file itself, its loader, what that reads, and all libraries, in the order in which they are loaded. */
  closureOf(start: FoundFile, elf: Elf): FoundFile[] {
    const found = new Map([[start.path, start]]);
    const waiting: { readonly at: FoundFile; readonly elf: Elf }[] = [{ at: start, elf }];
    const add = (file: FoundFile | undefined): void => {
      if (file !== undefined && !found.has(file.path)) found.set(file.path, file);
    };
    if (elf.interpreter !== undefined) {
      add(this.#files.find(elf.interpreter));
      add(this.#files.find(CACHE));
    }
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      for (const name of next.elf.needed) {
        const library = this.#find(name, next.at, next.elf, elf);
        if (library === undefined || found.has(library.at.path) || found.size >= MAX_LIBRARIES) continue;
        add(library.at);
        waiting.push(library);
      }
    }
    return [...found.values()];
  }

  parse({ file }: FoundFile): Elf | undefined {
    return parseElf((offset, length) => this.#files.read(file, offset, length));
  }

  #find(
    name: string,
    from: FoundFile,
    own: Elf,
    program: Elf,
  ): { readonly at: FoundFile; readonly elf: Elf } | undefined {
    const paths = name.includes("/")
      ? [name]
      : this.#directories(from, own, program).map((directory) => `${directory}/${name}`);
    for (const path of paths) {
      const at = this.#files.find(path);
      const elf = at && this.parse(at);
      if (at !== undefined && elf?.kind === program.kind) return { at, elf };
    }
    return undefined;
  }

  #directories(from: FoundFile, own: Elf, program: Elf): readonly string[] {
    const origin = directoryOf(from.path);
    const expanded = (paths: readonly string[]): string[] =>
      paths.map((path) => path.replaceAll(/\$ORIGIN|\$\{ORIGIN\}/g, origin));
    // A run path switches the older kind off, the program's too.
    const older = own.runpath.length > 0 ? [] : [...own.rpath, ...program.rpath];
    return [...expanded(older), ...this.#environment, ...expanded(own.runpath), ...this.#system()];
  }

  #system(): readonly string[] {
    this.#configured ??= [...new Set([...this.#config(), ...this.#musl(), ...SYSTEM])].slice(
      0,
      MAX_DIRECTORIES,
    );
    return this.#configured;
  }

  #musl(): string[] {
    const names = this.#files.list("/etc").filter((name) => /^ld-musl-.*\.path$/.test(name));
    return names.flatMap((name) => this.#lines(`/etc/${name}`).flatMap((line) => line.split(":")));
  }

  #config(): string[] {
    const directories: string[] = [];
    const waiting = [CONFIG];
    for (let read = 0; waiting.length > 0 && read < MAX_CONFIG_FILES; read++) {
      for (const line of this.#lines(waiting.shift() ?? "")) {
        const included = /^include\s+(.+)$/.exec(line)?.[1];
        if (included !== undefined) waiting.push(...this.#matching(included));
        else if (line.startsWith("/")) directories.push(line);
      }
    }
    return directories;
  }

  #lines(path: string): string[] {
    const found = this.#files.find(path);
    const text = found === undefined ? "" : (this.#files.text(found.file) ?? "");
    return text.split("\n").flatMap((line) => line.replace(/#.*/, "").trim() || []);
  }

  /** A pattern in the last name, as in "include /etc/ld.so.conf.d/*.conf". */
  #matching(pattern: string): string[] {
    const path = pattern.startsWith("/") ? pattern : `/etc/${pattern}`;
    const directory = directoryOf(path);
    const [head = "", ...tail] = path.slice(path.lastIndexOf("/") + 1).split("*");
    if (tail.length === 0) return [path];
    const end = tail.at(-1) ?? "";
    return this.#files
      .list(directory)
      .filter(
        (name) => name.startsWith(head) && name.endsWith(end) && name.length >= head.length + end.length,
      )
      .map((name) => `${directory}/${name}`);
  }
}
