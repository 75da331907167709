/**
 * The kinds of change that an upper layer makes to a tree.
 *
 * @module
 */
import { fileNode, isInside, joined, type Model, type ModelNode, node, parentOf } from "./model.ts";
import type { Random } from "./random.ts";

export interface Changing {
  readonly tree: Map<string, ModelNode>;
  /** The tree before this layer. */
  readonly lower: Model;
  readonly random: Random;
}

type Change = (changing: Changing) => void;

export const CHANGES: readonly Change[] = [
  removeFile,
  removeDirectory,
  emptyDirectory,
  refillDirectory,
  fileBecomesDirectory,
  directoryBecomesFile,
  directoryBecomesLink,
  linkBecomesDirectory,
  fileBecomesSpecial,
  changeDirectoryAttributes,
  changeFileAttributes,
  rewriteFile,
  addFile,
  addDeepFile,
  addLinkedFiles,
  moveDirectory,
  repeatContent,
];

/** Paths of one type, sorted so that the seed alone decides; large and structural ones are left alone. */
function pathsOf({ tree }: Changing, type: ModelNode["type"]): string[] {
  const found = [...tree].filter(([path, n]) => n.type === type && path.includes("/")).map(([path]) => path);
  return found.toSorted();
}

/** Any directory below the top level but those that would take most of the tree along. */
function smallDirectory(changing: Changing): string | undefined {
  const small = pathsOf(changing, "dir").filter((dir) => insideOf(changing, dir).length < 60);
  return small.length > 0 ? changing.random.pick(small) : undefined;
}

function insideOf({ tree }: Changing, directory: string): string[] {
  return [...tree.keys()].filter((path) => isInside(path, directory));
}

function drop(changing: Changing, path: string): void {
  for (const inside of insideOf(changing, path)) changing.tree.delete(inside);
  changing.tree.delete(path);
}

function freshFile(random: Random): ModelNode {
  const size = random.pick([0, 7, 900, 4096, 30_000, 140_000]);
  return fileNode(random.chance(0.5) ? random.prose(size) : random.noise(size), {
    mtime: 1_710_000_000 + random.below(1000),
    mode: random.pick([0o600, 0o644, 0o755]),
  });
}

function removeFile(changing: Changing): void {
  drop(changing, changing.random.pick(pathsOf(changing, "file")));
}

function removeDirectory(changing: Changing): void {
  const path = smallDirectory(changing);
  if (path !== undefined) drop(changing, path);
}

function emptyDirectory(changing: Changing): void {
  const path = smallDirectory(changing);
  if (path === undefined) return;
  drop(changing, path);
  changing.tree.set(path, node("dir", { mode: 0o710 }));
}

/** Removed and made again with other contents: what builders write as an opaque directory. */
function refillDirectory(changing: Changing): void {
  const { tree, random } = changing;
  const path = smallDirectory(changing);
  if (path === undefined) return;
  const old = insideOf(changing, path);
  drop(changing, path);
  tree.set(path, node("dir", { gid: 12 }));
  for (let i = 0; i < 3; i++) tree.set(`${path}/new-${random.name(5)}`, freshFile(random));
  tree.set(`${path}/sub`, node("dir"));
  tree.set(`${path}/sub/inside`, freshFile(random));
  // One of the old names comes back as something new.
  const child = old.find((p) => parentOf(p) === path);
  if (child !== undefined && child !== `${path}/sub`) tree.set(child, freshFile(random));
}

function fileBecomesDirectory(changing: Changing): void {
  const { tree, random } = changing;
  const path = random.pick(pathsOf(changing, "file"));
  tree.set(path, node("dir", { mode: 0o755, uid: 4 }));
  tree.set(`${path}/inside`, freshFile(random));
}

function directoryBecomesFile(changing: Changing): void {
  const path = smallDirectory(changing);
  if (path === undefined) return;
  drop(changing, path);
  changing.tree.set(path, freshFile(changing.random));
}

function directoryBecomesLink(changing: Changing): void {
  const path = smallDirectory(changing);
  if (path === undefined) return;
  drop(changing, path);
  changing.tree.set(path, node("symlink", { target: `was-${changing.random.name(4)}` }));
}

function linkBecomesDirectory(changing: Changing): void {
  const { tree, random } = changing;
  const paths = pathsOf(changing, "symlink");
  if (paths.length === 0) return;
  const path = random.pick(paths);
  tree.set(path, node("dir"));
  tree.set(`${path}/inside`, freshFile(random));
}

function fileBecomesSpecial(changing: Changing): void {
  const { tree, random } = changing;
  const made = [node("fifo"), node("char", { major: 5, minor: 2 }), node("symlink", { target: "x" })];
  tree.set(random.pick(pathsOf(changing, "file")), random.pick(made));
}

function changeDirectoryAttributes(changing: Changing): void {
  const { tree, random } = changing;
  const path = random.pick(pathsOf(changing, "dir"));
  const old = tree.get(path);
  if (old === undefined) return;
  const xattrs = new Map([["user.changed", Buffer.from(random.name(8))]]);
  tree.set(path, {
    ...old,
    implicit: false,
    mode: 0o1770,
    uid: random.below(5000),
    mtime: 1_720_000_000,
    xattrs,
  });
}

/** The data is the same, so a converter may refer to the lower layer's. */
function changeFileAttributes(changing: Changing): void {
  const { tree, random } = changing;
  const path = random.pick(pathsOf(changing, "file"));
  const old = tree.get(path);
  if (old !== undefined) tree.set(path, { ...old, mode: 0o640, gid: random.below(5000), xattrs: new Map() });
}

function rewriteFile(changing: Changing): void {
  changing.tree.set(changing.random.pick(pathsOf(changing, "file")), freshFile(changing.random));
}

function addFile(changing: Changing): void {
  const { tree, random } = changing;
  tree.set(joined(random.pick(pathsOf(changing, "dir")), `added-${random.name(6)}`), freshFile(random));
}

function addDeepFile(changing: Changing): void {
  const { tree, random } = changing;
  // What a directory without an entry inherits below a setgid one is left to the unpacker.
  const places = pathsOf(changing, "dir").filter((dir) => ((tree.get(dir)?.mode ?? 0) & 0o2000) === 0);
  let path = random.pick(places);
  for (let i = 0; i < 3; i++) {
    path = joined(path, `implicit-${random.name(4)}`);
    tree.set(path, node("dir", { implicit: true }));
  }
  tree.set(`${path}/file`, freshFile(random));
}

function addLinkedFiles(changing: Changing): void {
  const { tree, random } = changing;
  const made = freshFile(random);
  for (let i = 0; i < 3; i++)
    tree.set(joined(random.pick(pathsOf(changing, "dir")), `linked-${random.name(6)}`), made);
}

/** Layers know no renames: everything is deleted there and new here, with its attributes. */
function moveDirectory(changing: Changing): void {
  const { tree, random } = changing;
  const from = smallDirectory(changing);
  if (from === undefined) return;
  const to = `${from}-moved-${random.name(4)}`;
  const copies = new Map<ModelNode, ModelNode>();
  for (const path of [from, ...insideOf(changing, from)]) {
    const old = tree.get(path);
    if (old === undefined) continue;
    const copy = copies.get(old) ?? { ...old };
    copies.set(old, copy);
    tree.set(`${to}${path.slice(from.length)}`, copy);
  }
  drop(changing, from);
}

function repeatContent(changing: Changing): void {
  const { tree, random } = changing;
  const old = tree.get(random.pick(pathsOf(changing, "file")));
  if (old?.data === undefined) return;
  tree.set(joined(random.pick(pathsOf(changing, "dir")), `repeat-${random.name(6)}`), fileNode(old.data));
}
