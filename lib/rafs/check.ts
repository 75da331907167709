/**
 * The complete check of a bootstrap, before the kernel may parse it: every structure that can be reached is in bounds
 * and says what the others say. All violations are reported, each with path and offset.
 *
 * @module
 */
import { byteStringOf, printable } from "../base/byte-string.ts";
import { isCode } from "../base/error.ts";
import { type Bootstrap, type DirectoryEntry, openBootstrap } from "./bootstrap.ts";
import { ChunkIndexChecker } from "./check-chunks.ts";
import { hasXattrs, linkCount, type RawInode } from "./inode-reader.ts";

export interface Violation {
  /** In the image: "/usr/bin/x"; "" for the tables. */
  readonly path: string;
  /** Byte offset in the bootstrap of the structure that is wrong, as near as it is known. */
  readonly offset: number;
  readonly message: string;
}

/** A damaged image can break every rule a million times. */
const MAX_VIOLATIONS = 1000;
/** A symbolic link's target fits a page. */
const MAX_TARGET = 4095;

export function checkBootstrap(bytes: Uint8Array): Violation[] {
  const violations: Violation[] = [];
  try {
    new Walk(openBootstrap(bytes), violations).run();
  } catch (error) {
    if (!isCode(error, "corrupt") && !isCode(error, "unsupported")) throw error;
    violations.push({ path: "", offset: 0, message: error.message });
  }
  return violations;
}

interface Visit {
  readonly nid: number;
  readonly parent: number;
  readonly path: string;
}

interface Links {
  found: number;
  readonly claimed: number;
  readonly path: string;
  readonly at: number;
}

class Walk {
  readonly #image: Bootstrap;
  readonly #violations: Violation[];
  readonly #chunks: ChunkIndexChecker;
  /** Directories that were reached: a second way to one would be a loop or a hard link. */
  readonly #directories = new Set<number>();
  readonly #links = new Map<number, Links>();
  readonly #waiting: Visit[] = [];

  constructor(image: Bootstrap, violations: Violation[]) {
    this.#image = image;
    this.#violations = violations;
    this.#chunks = new ChunkIndexChecker(image);
  }

  run(): void {
    const { rootNid } = this.#image;
    if (this.#image.raw(rootNid).kind !== "directory")
      return this.#report("/", 0, "the root is not a directory");
    this.#directories.add(rootNid);
    this.#waiting.push({ nid: rootNid, parent: rootNid, path: "" });
    for (let visit = this.#waiting.pop(); visit !== undefined; visit = this.#waiting.pop()) {
      if (this.#violations.length >= MAX_VIOLATIONS) return;
      this.#directory(visit);
    }
    for (const { found, claimed, path, at } of this.#links.values()) {
      if (found !== claimed) this.#report(path, at, `it has ${found} names, its inode says ${claimed}`);
    }
  }

  #report(path: string, offset: number, message: string): void {
    if (this.#violations.length < MAX_VIOLATIONS) {
      this.#violations.push({ path: printable(byteStringOf(path)), offset, message });
    }
  }

  /** What reading one node finds wrong belongs to that node; the walk goes on beside it. */
  #guarded(path: string, offset: number, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!isCode(error, "corrupt") && !isCode(error, "unsupported")) throw error;
      this.#report(path, offset, error.message.replace(/^Cannot read the bootstrap: /, ""));
    }
  }

  #directory({ nid, parent, path }: Visit): void {
    const shown = path === "" ? "/" : path;
    const inode = this.#image.raw(nid);
    let [previous, dots, children] = ["", 0, 0];
    this.#guarded(shown, inode.at, () => {
      if (hasXattrs(inode)) this.#image.xattrs(nid);
      for (const entry of this.#image.readdir(nid)) {
        if (previous !== "" && entry.name <= previous) {
          this.#report(
            shown,
            inode.at,
            `its entry "${printable(entry.name)}" is out of order or there twice`,
          );
        }
        previous = entry.name;
        if (entry.name === "." || entry.name === "..") {
          dots++;
          const wanted = entry.name === "." ? nid : parent;
          if (entry.nid !== wanted)
            this.#report(shown, inode.at, `its "${entry.name}" is inode ${entry.nid}, not ${wanted}`);
        } else if (this.#entry(entry, nid, path)) children++;
      }
    });
    if (dots !== 2) this.#report(shown, inode.at, 'it has no "." and ".."');
    const claimed = linkCount(this.#image.view, inode);
    if (claimed !== children + 2)
      this.#report(shown, inode.at, `it has ${claimed} links instead of ${children + 2}`);
  }

  /** @returns whether it is a directory */
  #entry(entry: DirectoryEntry, parent: number, parentPath: string): boolean {
    const path = `${parentPath}/${entry.name}`;
    if (entry.name.includes("/")) this.#report(path, 0, 'its name has a "/"');
    let directory = false;
    this.#guarded(path, 0, () => {
      const inode = this.#image.raw(entry.nid);
      directory = inode.kind === "directory";
      if (inode.kind !== entry.type)
        this.#report(path, inode.at, `it is a ${inode.kind}, its entry says ${entry.type}`);
      if (directory) this.#enter({ nid: entry.nid, parent, path }, inode);
      else this.#leaf(inode, path);
    });
    return directory;
  }

  #enter(visit: Visit, inode: RawInode): void {
    if (this.#directories.has(visit.nid))
      return this.#report(visit.path, inode.at, "the directory is reached twice");
    this.#directories.add(visit.nid);
    this.#waiting.push(visit);
  }

  #leaf(inode: RawInode, path: string): void {
    const links = this.#links.get(inode.nid);
    if (links !== undefined) {
      links.found++;
      return;
    }
    this.#links.set(inode.nid, { found: 1, claimed: linkCount(this.#image.view, inode), path, at: inode.at });
    if (hasXattrs(inode)) this.#image.xattrs(inode.nid);
    if (inode.kind === "file") this.#chunks.check(inode);
    else if (inode.kind === "symlink") this.#symlink(inode, path);
    else if (inode.size !== 0) this.#report(path, inode.at, `a ${inode.kind} has ${inode.size} bytes`);
  }

  #symlink(inode: RawInode, path: string): void {
    if (inode.size === 0 || inode.size > MAX_TARGET) {
      return this.#report(path, inode.at, `its target has ${inode.size} bytes`);
    }
    if (this.#image.readlink(inode.nid).includes(0))
      this.#report(path, inode.at, "its target has a NUL byte");
  }
}
