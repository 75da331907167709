/**
 * From what people write to paths of a tree: a path, or a pattern with `*`, `?`, `[...]` (within a name) and `**` (any
 * number of directories). A directory stands for all that is in it.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { pathNames } from "./path.ts";
import { type Directory, type Node, sortedEntries } from "./tree.ts";

export interface SelectedPaths {
  /** Absolute, in the order of the patterns, then of the tree; none lies below one before it. */
  readonly paths: readonly ByteString[];
  /** Patterns that nothing has or matches. */
  readonly unmatched: readonly ByteString[];
}

/** Linux gives up after 40 symbolic links in one path. */
const MAX_LINKS = 40;

/** @throws corrupt for a pattern that no path can look like */
export function selectPaths(root: Directory, patterns: readonly ByteString[]): SelectedPaths {
  const chosen = new Set<ByteString>();
  const unmatched: ByteString[] = [];
  for (const pattern of patterns) {
    const found = matches(root, pattern);
    if (found.length === 0) unmatched.push(pattern);
    for (const path of found) if (!isCovered(path, chosen)) chosen.add(path);
  }
  return { paths: [...chosen], unmatched };
}

/** A name may look like a pattern: what is there under it wins. */
function matches(root: Directory, pattern: ByteString): readonly ByteString[] {
  const names = pathNames(pattern);
  const exact = locate(root, names);
  if (exact !== undefined) return [exact];
  return /[*?[]/.test(pattern) ? [...matching(root, expressionOf(names), "")] : [];
}

/** Where a path leads, through symbolic links as the kernel follows them: images have /bin as a link to /usr/bin. */
function locate(root: Directory, names: readonly ByteString[]): ByteString | undefined {
  const ahead = [...names].reverse();
  let trail: { readonly name: string; readonly node: Node }[] = [{ name: "", node: root }];
  let links = 0;
  for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
    const here = trail.at(-1)?.node;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      if (trail.length > 1) trail.pop();
      continue;
    }
    const next = here?.kind === "directory" ? here.entries.get(name) : undefined;
    if (next === undefined) return undefined;
    if (next.kind !== "symlink") {
      trail.push({ name, node: next });
      continue;
    }
    if (++links > MAX_LINKS) return undefined;
    if (next.target.startsWith("/")) trail = trail.slice(0, 1);
    ahead.push(...(next.target.split("/").reverse() as ByteString[]));
  }
  return (trail.length === 1 ? "/" : trail.map(({ name }) => name).join("/")) as ByteString;
}

function* matching(dir: Directory, expression: RegExp, above: string): Generator<ByteString> {
  for (const [name, node] of sortedEntries(dir)) {
    const path = `${above}/${name}`;
    if (expression.test(path)) yield path as ByteString;
    else if (node.kind === "directory") yield* matching(node, expression, path);
  }
}

function expressionOf(names: readonly ByteString[]): RegExp {
  const parts = names.map((name) => (name === "**" ? "(?:/[^/]+)*" : `/${nameExpression(name)}`));
  return new RegExp(`^${parts.join("")}$`, "s");
}

function nameExpression(name: string): string {
  return name.replace(/\*+|\?|\[!?\]?[^\]]*\]|[\\^$.|+(){}[\]]/g, (token) => {
    if (token.startsWith("*")) return "[^/]*";
    if (token === "?") return "[^/]";
    if (token.length < 3 || !token.startsWith("[")) return `\\${token}`;
    const inside = token
      .slice(1, -1)
      .replace(/^!/, "^")
      .replace(/[\\[\]]/g, "\\$&");
    return `[${inside}]`;
  });
}

function isCovered(path: ByteString, chosen: ReadonlySet<ByteString>): boolean {
  if (chosen.has("/" as ByteString) || chosen.has(path)) return true;
  for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1))
    if (chosen.has(path.slice(0, end) as ByteString)) return true;
  return false;
}
