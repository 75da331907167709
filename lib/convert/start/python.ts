/**
 * What a Python program reads when it starts: the modules that the interpreter itself imports, and those that the program
 * imports, as far as its text says. Imports inside functions are for later, and are left out.
 *
 * @module
 */
import { directoryOf, type FoundFile, type ImageFiles } from "./image-files.ts";

/** Imported before any program's first line, in this order. */
const STARTING = [
  "encodings",
  "encodings.aliases",
  "encodings.utf_8",
  "codecs",
  "io",
  "abc",
  "site",
  "os",
  "stat",
  "_collections_abc",
  "posixpath",
  "genericpath",
  "_sitebuiltins",
  "sitecustomize",
]; // prettier-ignore
/** Of modules and of what looks like some. */
const MAX_NAMES = 20_000;

export class PythonImports {
  readonly #files: ImageFiles;
  /** Standard library, then what is installed. */
  readonly #path: string[];
  /** "cpython-311": part of the names of compiled files. */
  readonly #tag: string;
  readonly #found = new Map<string, FoundFile>();
  readonly #seen = new Set<string>();
  /** Directories of packages that were found, by their full names. */
  readonly #packages = new Map<string, string>();
  readonly #extensions = new Map<string, ReadonlyMap<string, string>>();

  private constructor(files: ImageFiles, path: string[], tag: string) {
    this.#files = files;
    this.#path = path;
    this.#tag = tag;
  }

  /** Undefined for what is no Python interpreter, or one without its library. */
  static of(files: ImageFiles, interpreter: FoundFile): PythonImports | undefined {
    const [, major, minor] = /\/python(3)\.(\d+)$/.exec(interpreter.path) ?? [];
    if (minor === undefined) return undefined;
    const prefix = directoryOf(directoryOf(interpreter.path));
    const library = `${prefix === "/" ? "" : prefix}/lib/python${major}.${minor}`;
    const path = [
      library,
      `${library}/lib-dynload`,
      `${library}/site-packages`,
      `/usr/local/lib/python${major}.${minor}/dist-packages`,
      `${directoryOf(library)}/python3/dist-packages`,
    ].filter((directory) => files.isDirectory(directory));
    return path.length === 0 ? undefined : new PythonImports(files, path, `cpython-${major}${minor}`);
  }

  /** Files that the interpreter reads before the program, and then because of it. */
  closureOf(program: FoundFile | undefined): FoundFile[] {
    for (const module of STARTING) this.#import(module);
    if (program !== undefined) {
      this.#path.unshift(directoryOf(program.path));
      this.#scan(program, "");
    }
    return [...this.#found.values()];
  }

  /** "a.b" is read after "a", and each once. */
  #import(module: string): void {
    const names = module.split(".");
    for (let i = 1; i <= names.length; i++) {
      const name = names.slice(0, i).join(".");
      if (this.#seen.has(name) || this.#seen.size >= MAX_NAMES) continue;
      this.#seen.add(name);
      const package_ = this.#packages.get(names.slice(0, i - 1).join("."));
      const places = i === 1 ? this.#path : package_ === undefined ? [] : [package_];
      this.#load(name, names[i - 1] ?? "", places);
    }
  }

  #load(module: string, name: string, places: readonly string[]): void {
    for (const directory of places) {
      const source = this.#files.find(`${directory}/${name}/__init__.py`);
      if (source !== undefined) {
        this.#packages.set(module, directoryOf(source.path));
        return this.#take(source, module);
      }
      const single = this.#files.find(`${directory}/${name}.py`);
      if (single !== undefined)
        return this.#take(single, module.slice(0, Math.max(0, module.lastIndexOf("."))));
      const native = this.#native(directory, name);
      if (native !== undefined) return void this.#found.set(native.path, native);
    }
  }

  #native(directory: string, name: string): FoundFile | undefined {
    const file = this.#natives(directory).get(name);
    return file === undefined ? undefined : this.#files.find(`${directory}/${file}`);
  }

  /** Extension modules of a directory, by what comes before the first dot of their names. */
  #natives(directory: string): ReadonlyMap<string, string> {
    const known = this.#extensions.get(directory);
    if (known !== undefined) return known;
    const names = this.#files.list(directory).filter((name) => name.endsWith(".so"));
    const natives = new Map(names.map((name) => [name.slice(0, name.indexOf(".")), name]));
    this.#extensions.set(directory, natives);
    return natives;
  }

  /** The compiled form is what is read, where there is one. */
  #take(source: FoundFile, module: string): void {
    const name = source.path.slice(source.path.lastIndexOf("/") + 1, -".py".length);
    const compiled = `${directoryOf(source.path)}/__pycache__/${name}.${this.#tag}.pyc`;
    const read = this.#files.find(compiled) ?? source;
    this.#found.set(read.path, read);
    this.#scan(source, module);
  }

  /** @param package_ that relative imports count from */
  #scan(source: FoundFile, package_: string): void {
    const text = this.#files.text(source.file);
    if (text === undefined) return;
    for (const module of importsOf(text, package_)) this.#import(module);
  }
}

/** Statements whose block runs when the module is imported. */
const RUNS_AT_ONCE = /^(?:try|except|else|finally|if|elif|with)\b/;
const IMPORT = /^import\s+(.+)$/;
const FROM = /^from\s+(\.*)([\w.]*)\s+import\s+(.+)$/;

/**
 * Absolute names of all that a module's own statements import; of "from a import b" both "a" and "a.b". Texts in quotes
 * are not understood, and do no harm.
 */
function importsOf(text: string, package_: string): string[] {
  const modules: string[] = [];
  let block = "";
  let open: string | undefined;
  for (const raw of text.split("\n")) {
    if (open !== undefined) {
      open += ` ${withoutComment(raw)}`;
      if (!raw.includes(")")) continue;
      modules.push(...importsIn(open, package_));
      open = undefined;
      continue;
    }
    const indented = raw.startsWith(" ") || raw.startsWith("\t");
    if (!indented && raw !== "") block = raw;
    if (!raw.includes("import")) continue;
    if (indented && (!RUNS_AT_ONCE.test(block) || block.includes("TYPE_CHECKING"))) continue;
    const line = withoutComment(raw);
    if (/^from\s[^()]*\([^)]*$/.test(line)) open = line;
    // Several statements in one line are rare, except in programs of one line.
    else for (const statement of line.split(";")) modules.push(...importsIn(statement.trim(), package_));
  }
  return modules;
}

function withoutComment(line: string): string {
  const at = line.indexOf("#");
  return (at < 0 ? line : line.slice(0, at)).trim();
}

function importsIn(statement: string, package_: string): string[] {
  const plain = IMPORT.exec(statement)?.[1];
  if (plain !== undefined) return namesIn(plain);
  const [, dots = "", module = "", names = ""] = FROM.exec(statement) ?? [];
  const from = absolute(dots, module, package_);
  return from === "" ? [] : [from, ...namesIn(names).map((name) => `${from}.${name}`)];
}

function namesIn(list: string): string[] {
  return list
    .replaceAll(/[()]/g, "")
    .split(",")
    .flatMap((part) => /^\s*([A-Za-z_][\w.]*)/.exec(part)?.[1] ?? []);
}

function absolute(dots: string, module: string, package_: string): string {
  if (dots === "") return module;
  const parents = package_ === "" ? [] : package_.split(".");
  const base = parents.slice(0, parents.length - (dots.length - 1));
  return [...base, ...(module === "" ? [] : [module])].join(".");
}
