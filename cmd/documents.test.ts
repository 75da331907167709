/**
 * What help and documents say can be typed: every example is a command line that is understood, and every flag that a
 * document names exists. So does every file.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type Command, helpText, parseCommandLine } from "./command.ts";
import { VERBS } from "./commands.ts";

const COMMANDS = await Promise.all(VERBS.map((verb) => verb.load()));
const SHOWN = COMMANDS.filter(({ hidden }) => hidden !== true);
const DOCUMENTS = ["README.md", ...pagesIn("docs")];

function pagesIn(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => (name.endsWith(".md") ? `${directory}/${name}` : []));
}

/** Paths of this repository as documents write them: "lib/blob/reader.ts", and mostly "blob/reader". */
const PATHS = new RegExp(
  `(?<![\\w./:-])(?:${["lib", "cmd", "ffi", "scripts", "docs", "tests", "examples", ...readdirSync("lib")].join("|")})/[\\w./-]*\\w`,
  "g",
);
/** Inside images. */
const FOREIGN_PATHS: ReadonlySet<string> = new Set(["image/image.boot"]);

/** Of the kubelet and of containerd's ctr, which the documents mention alone. */
const FOREIGN_FLAGS: ReadonlySet<string> = new Set([
  "image-service-endpoint",
  "uidmap",
  "gidmap",
  "remap-labels",
]);

/** Command lines of other programs. */
const FOREIGN_LINES =
  /^(?:ctr|nerdctl|skopeo|kubectl|crictl|umoci) .*$|`(?:ctr|nerdctl|skopeo|kubectl|crictl|umoci) [^`]*`/gm;

/** The commands of a line as a shell takes it apart, each in words; comments and redirections left out. */
function commandsOf(line: string): string[][] {
  const words = line.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
  const commands: string[][] = [[]];
  for (const word of words) {
    if (word.startsWith("#")) break;
    if (/^(?:[|;&]|&&)$/.test(word)) commands.push([]);
    else if (!/^[<>]/.test(word)) commands.at(-1)?.push(word.replace(/^(["'])(.*)\1$/, "$2"));
  }
  return commands;
}

interface Call {
  readonly command: Command | undefined;
  /** Behind the verb. */
  readonly rest: readonly string[];
}

/** The calls of this program in a line; a copy of it may have another name. */
function callsIn(line: string): Call[] {
  const own = commandsOf(line).filter(([program = ""]) => /^(?:\S*\/)?nydus-tool(?:-\w+)?$/.test(program));
  return own.map((words) => {
    for (const count of [2, 1]) {
      const command = SHOWN.find(({ name }) => name === words.slice(1, 1 + count).join(" "));
      if (command !== undefined) return { command, rest: words.slice(1 + count) };
    }
    return { command: undefined, rest: words.slice(1) };
  });
}

function flagsIn(text: string): string[] {
  return Array.from(text.matchAll(/(?<![\w-])--([a-z][a-z0-9-]+)/g), ([, name = ""]) => name);
}

test.each(SHOWN.map((command) => [command.name, command] as const))(
  "the examples of %s are command lines that are understood",
  (_, command) => {
    const calls = command.examples.flatMap(([line]) => callsIn(line).map((call) => ({ line, ...call })));
    expect(calls.some((call) => call.command === command)).toBe(true);
    for (const { line, command: called, rest } of calls) {
      expect(helpText(command)).toContain(line);
      expect(called, line).toBeDefined();
      if (called !== undefined) expect(() => parseCommandLine(called, rest), line).not.toThrow();
    }
  },
);

test.each(DOCUMENTS)("%s names only verbs and flags that there are", (document) => {
  const text = readFileSync(document, "utf8");
  const found = text.matchAll(/^nydus-tool .*$|`(nydus-tool [^`]*)`/gm);
  for (const line of Array.from(found, ([whole, code]) => code ?? whole))
    for (const { command, rest } of callsIn(line)) {
      const [word = "--help"] = rest;
      // "nydus-tool --help", and groups of verbs.
      if (command === undefined)
        expect(word.startsWith("--") || SHOWN.some(({ name }) => name.startsWith(`${word} `)), line).toBe(
          true,
        );
      const own = new Set(["help", "version", ...Object.keys(command?.flags ?? {})]);
      expect(
        flagsIn(rest.join(" ")).filter((flag) => !own.has(flag)),
        line,
      ).toEqual([]);
    }
});

test.each([...DOCUMENTS, ...pagesIn("docs/decisions")])("%s names only files that there are", (document) => {
  const named = readFileSync(document, "utf8").match(PATHS) ?? [];
  const places = (path: string): string[] => [path, `${path}.ts`, `lib/${path}`, `lib/${path}.ts`];
  const missing = named.filter((path) => !FOREIGN_PATHS.has(path) && !places(path).some(existsSync));
  expect(missing).toEqual([]);
});

test("README names only flags that there are", () => {
  const all = new Set(["help", ...SHOWN.flatMap(({ flags }) => Object.keys(flags))]);
  const text = readFileSync("README.md", "utf8").replace(FOREIGN_LINES, "");
  const unknown = flagsIn(text).filter((flag) => !all.has(flag));
  expect(unknown.filter((flag) => !FOREIGN_FLAGS.has(flag))).toEqual([]);
});

test("README's table has every verb", () => {
  const text = readFileSync("README.md", "utf8");
  const missing = SHOWN.filter(({ name }) => {
    const [first = "", second = ""] = name.split(" ");
    return !text.includes(`\`${name}`) && !(text.includes(`\`${first} `) && text.includes(`\`${second}\``));
  });
  expect(missing.map(({ name }) => name)).toEqual([]);
});

test.each(VERBS)(
  "the table of verbs says of $name what the verb says of itself",
  async ({ load, ...said }) => {
    const { name, summary, hidden } = await load();
    expect(said).toEqual({ name, summary, ...(hidden === undefined ? {} : { hidden }) });
  },
);
