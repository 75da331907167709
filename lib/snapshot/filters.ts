/**
 * The filter language of containerd's list calls, for example `kind==active,labels."containerd.io/gc.root"`. Commas
 * join selectors that must all match; of several filters one is enough.
 *
 *     selector := field ("." field)* [("==" | "!=" | "~=") value]
 *     field    := quoted | name          value := quoted | characters up to a comma or space
 *
 * @module
 */
import { NydusError } from "../base/error.ts";

/** The value of a field, or undefined when the object has none. */
export type Fields = (path: readonly string[]) => string | undefined;
export type Filter = (fields: Fields) => boolean;

const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;
const OPERATOR = /\s*(==|!=|~=)\s*/y;
const BARE_VALUE = /[^\s,"']+/y;
const QUOTED = /"(?:[^"\\\n]|\\.)*"/y;
/** Regular expressions may also stand between slashes or bars. */
const QUOTED_PATTERN = /"(?:[^"\\\n]|\\.)*"|\/(?:[^/\\\n]|\\.)*\/|\|(?:[^|\\\n]|\\.)*\|/y;

/** @throws usage for a filter that is not in the language */
export function parseFilters(filters: readonly string[]): Filter {
  const parsed = filters.map(parseFilter);
  return (fields) => parsed.length === 0 || parsed.some((filter) => filter(fields));
}

function parseFilter(text: string): Filter {
  if (text === "") return () => true;
  const scanner = new Scanner(text);
  const selectors = [selector(scanner)];
  while (!scanner.atEnd()) {
    scanner.expect(",");
    selectors.push(selector(scanner));
  }
  return (fields) => selectors.every((matches) => matches(fields));
}

function selector(scanner: Scanner): Filter {
  const path = [field(scanner)];
  while (scanner.accept(".")) path.push(field(scanner));
  const operator = scanner.match(OPERATOR)?.trim();
  if (operator === undefined) return (fields) => fields(path) !== undefined;
  if (operator === "~=") {
    const quoted = scanner.match(QUOTED_PATTERN);
    const pattern = expression(quoted === undefined ? bareValue(scanner) : unquoted(quoted, scanner));
    return (fields) => pattern?.test(fields(path) ?? "") ?? false;
  }
  const quoted = scanner.match(QUOTED);
  const value = quoted === undefined ? bareValue(scanner) : unquoted(quoted, scanner);
  return operator === "==" ? (fields) => fields(path) === value : (fields) => (fields(path) ?? "") !== value;
}

/** A pattern that is none matches nothing, as in containerd. */
function expression(pattern: string): RegExp | undefined {
  try {
    return new RegExp(pattern, "u");
  } catch {
    return undefined;
  }
}

function field(scanner: Scanner): string {
  const quoted = scanner.match(QUOTED);
  if (quoted !== undefined) return unquoted(quoted, scanner);
  return scanner.match(NAME) ?? scanner.fail("a field name is missing");
}

function bareValue(scanner: Scanner): string {
  const value = scanner.match(BARE_VALUE);
  return value === undefined || value === "" ? scanner.fail("a value is missing") : value;
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** Go's escapes, without those that make single bytes of invalid UTF-8. */
function unquoted(quoted: string, scanner: Scanner): string {
  const quote = quoted.charAt(0);
  const escapes = /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))/gsu;
  return quoted.slice(1, -1).replace(escapes, (_, x, u, long, octal, single): string => {
    const hex: string | undefined = x ?? u ?? long;
    const code = hex !== undefined ? Number.parseInt(hex, 16) : Number.parseInt(octal ?? "", 8);
    if (code <= 0x10ffff) return String.fromCodePoint(code);
    if (single === "\\" || single === quote) return single;
    return ESCAPES[single] ?? scanner.fail("an escape is unknown");
  });
}

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  atEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  accept(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  expect(character: string): void {
    if (!this.accept(character)) this.fail(`"${character}" is missing`);
  }

  fail(state: string): never {
    throw new NydusError(
      "usage",
      `Cannot use filter "${this.#text.slice(0, 200)}": at character ${this.#at + 1} ${state}`,
    );
  }
}
