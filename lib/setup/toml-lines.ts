/**
 * Changes a TOML file of somebody else: a few keys, line by line, so that comments and order stay. Each line that is
 * written carries a mark, and what it replaced, so that all of it can be taken back. The outcome is read again and
 * compared with what was meant: a file that is written in a way this does not understand is refused, never damaged.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";

export type TomlValue = string | boolean | number | readonly string[];

/** Keys of one table. */
export interface TomlTable {
  readonly path: readonly string[];
  readonly keys: Readonly<Record<string, TomlValue>>;
  /** One more element of an array of tables. */
  readonly element?: boolean;
}

const MARK = "# by nydus-tool";
const BEFORE = `${MARK}, before: `;

/** @throws usage when the text is no TOML, or has these keys in a shape that cannot be changed line by line */
export function withTables(text: string, tables: readonly TomlTable[]): string {
  const wanted = parse(text);
  let lines = linesOf(text);
  for (const table of tables) {
    setInObject(wanted, table);
    lines = setInLines(lines, table);
  }
  const changed = textOf(lines);
  if (!Bun.deepEquals(parse(changed), wanted, true)) throw refused("it has these tables in another shape");
  return changed;
}

/** The text without anything that `withTables` wrote. */
export function withoutMarks(text: string): string {
  const lines = linesOf(text);
  const kept = lines.flatMap((line, i) => {
    if (!isMarked(line)) return [line];
    const before = line.split(BEFORE)[1];
    if (before !== undefined) return [`${indentOf(line)}${before}`];
    // Somebody added keys below our header, and they would fall into the table above.
    return headerOf(line) !== undefined && hasForeignKeys(lines, i + 1)
      ? [line.replace(MARK, "").trimEnd()]
      : [];
  });
  return textOf(kept);
}

export function parse(text: string): Record<string, unknown> {
  try {
    return Bun.TOML.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw refused(`it is not TOML: ${error instanceof Error ? error.message : error}`);
  }
}

function refused(state: string): NydusError {
  return new NydusError("usage", `Cannot change the file: ${state}`);
}

function linesOf(text: string): string[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

function textOf(lines: readonly string[]): string {
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

function isMarked(line: string): boolean {
  return line.trimEnd().endsWith(MARK) || line.includes(BEFORE);
}

function indentOf(line: string): string {
  return /^\s*/.exec(line)?.[0] ?? "";
}

const KEY = String.raw`(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')`;
const HEADER = new RegExp(String.raw`^\s*(\[{1,2})\s*(${KEY}(?:\s*\.\s*${KEY})*)\s*\]{1,2}\s*(?:#.*)?$`);

/** The words of a table's header; the first character says whether it is an element of an array. */
function headerOf(line: string): { readonly path: readonly string[]; readonly element: boolean } | undefined {
  const [, open = "", name] = HEADER.exec(line) ?? [];
  if (name === undefined) return undefined;
  const words = name.match(new RegExp(KEY, "g")) ?? [];
  return { path: words.map(unquoted), element: open === "[[" };
}

function unquoted(word: string): string {
  return /^["']/.test(word) ? word.slice(1, -1) : word;
}

function hasForeignKeys(lines: readonly string[], from: number): boolean {
  for (const line of lines.slice(from)) {
    if (headerOf(line) !== undefined) return false;
    if (!isMarked(line) && line.trim() !== "" && !line.trim().startsWith("#")) return true;
  }
  return false;
}

function setInObject(root: Record<string, unknown>, { path, keys, element }: TomlTable): void {
  let table = root;
  for (const [i, word] of path.entries()) {
    if (element === true && i === path.length - 1) {
      const there = table[word];
      table[word] = [...(Array.isArray(there) ? there : []), { ...keys }];
      return;
    }
    const below = table[word] ?? {};
    if (typeof below !== "object" || Array.isArray(below)) throw refused(`"${path.join(".")}" is no table`);
    table[word] = below;
    table = below as Record<string, unknown>;
  }
  Object.assign(table, keys);
}

function setInLines(lines: readonly string[], table: TomlTable): string[] {
  const at =
    table.path.length === 0
      ? -1
      : lines.findIndex((line) => {
          const header = headerOf(line);
          return header?.element === false && Bun.deepEquals(header.path, table.path);
        });
  if (table.element === true || (at < 0 && table.path.length > 0)) return [...lines, ...newTable(table)];
  const changed = [...lines];
  for (const [key, value] of Object.entries(table.keys)) setKey(changed, at + 1, key, value);
  return changed;
}

function newTable({ path, keys, element }: TomlTable): string[] {
  const name = path.map(quotedKey).join(".");
  return [
    `${element === true ? `[[${name}]]` : `[${name}]`} ${MARK}`,
    ...Object.entries(keys).map(([key, value]) => `  ${assignment(key, value)} ${MARK}`),
  ];
}

/** In the table whose first line after the header is `from`. */
function setKey(lines: string[], from: number, key: string, value: TomlValue): void {
  const next = lines.findIndex((line, i) => i >= from && headerOf(line) !== undefined);
  const own = new RegExp(String.raw`^\s*["']?${key.replaceAll(/\W/g, "\\$&")}["']?\s*=`);
  const at = lines.findIndex((line, i) => i >= from && (next < 0 || i < next) && own.test(line));
  const there = lines[at];
  const wanted = assignment(key, value);
  if (there === undefined) {
    lines.splice(from, 0, `${indentOf(lines[from] ?? "")}${wanted} ${MARK}`);
    return;
  }
  if (isSame(there, wanted)) return;
  const before = there.split(BEFORE)[1] ?? (isMarked(there) ? undefined : there.trim());
  lines[at] = `${indentOf(there)}${wanted} ${before === undefined ? MARK : `${BEFORE}${before}`}`;
}

/** Whether two assignments mean the same; a comment behind one does not matter. */
function isSame(line: string, wanted: string): boolean {
  try {
    return Bun.deepEquals(Bun.TOML.parse(line), Bun.TOML.parse(wanted), true);
  } catch {
    return false; // the line is the first of several
  }
}

function assignment(key: string, value: TomlValue): string {
  // JSON's strings, numbers, booleans and arrays of strings are TOML's too.
  return `${quotedKey(key)} = ${JSON.stringify(value)}`;
}

function quotedKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : JSON.stringify(key);
}
