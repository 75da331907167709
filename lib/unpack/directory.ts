/**
 * A tree becomes a directory, as root: every node with its owner, mode, time and xattrs, devices and hard links
 * included.
 *
 * The directory is empty at first, so that nothing in it can lead elsewhere: names are created, never followed, each
 * relative to the open directory it goes into. A directory gets its attributes when all of it is there, so one that was
 * left half-way is root's alone.
 *
 * @module
 */
import { closeSync, mkdirSync, openSync, readdirSync, writeSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import {
  chmodAt,
  chownAt,
  createAt,
  linkAt,
  mkdirAt,
  mknodAt,
  openDirectoryAt,
  S_IF,
  setTimeAt,
  setXattr,
  symlinkAt,
} from "../../ffi/inodes.ts";
import { errnoName } from "../../ffi/libc.ts";
import { bytesOf, printable } from "../base/byte-string.ts";
import { NydusError, toNydusError } from "../base/error.ts";
import { FileContents } from "../tree/file-contents.ts";
import type { Directory, Node, RegularFile } from "../tree/tree.ts";
import { chunksInOrder, type Enter, type Leave, visits } from "../tree/walk.ts";
import type { ReadChunks } from "./tar.ts";

export interface UnpackOptions {
  /** Called for each entry, and for the bytes of file data as they are written. */
  readonly onProgress?: (entries: number, bytes: number) => void;
  readonly signal?: AbortSignal;
}

/** Entries between two chances for timers and signals. */
const BREATH = 64;
const SELF = Buffer.from(".");

/**
 * @param directory made if need be; it must be empty
 * @throws exists when it is not empty, denied without root's rights, no_space, and what reading chunks throws; what was
 *   unpacked until then stays
 */
export async function unpackDirectory(
  root: Directory,
  directory: string,
  readChunks: ReadChunks,
  options: UnpackOptions = {},
): Promise<void> {
  await using contents = new FileContents(readChunks(chunksInOrder(root)));
  using unpacker = new Unpacker(directory, contents, options);
  let count = 0;
  for (const visit of visits(root)) {
    if (++count % BREATH === 0) await setImmediate();
    options.signal?.throwIfAborted();
    if (visit.kind === "leave") unpacker.leave(visit);
    else await unpacker.enter(visit);
  }
}

function openEmpty(directory: string): number {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const fd = openSync(directory, "r");
    if (readdirSync(directory, { encoding: "buffer" }).length === 0) return fd;
    closeSync(fd);
  } catch (error) {
    throw toNydusError(error, `unpack to "${directory}"`);
  }
  throw new NydusError("exists", `Cannot unpack to "${directory}": it is not empty`);
}

/** An open directory, and the one it lies in. */
interface Place {
  readonly fd: number;
  readonly parent: Place | undefined;
}

class Unpacker implements Disposable {
  readonly #rootFd: number;
  readonly #contents: FileContents;
  readonly #report: (entries: number, bytes: number) => void;
  #here: Place;

  constructor(directory: string, contents: FileContents, { onProgress }: UnpackOptions) {
    this.#rootFd = openEmpty(directory);
    this.#here = { fd: this.#rootFd, parent: undefined };
    this.#contents = contents;
    this.#report = onProgress ?? (() => {});
  }

  async enter(visit: Enter): Promise<void> {
    const { node, path } = visit;
    const name = bytesOf(visit.name);
    const { fd } = this.#here;
    if (visit.first !== undefined) {
      this.#done(visit, "link", linkAt(this.#rootFd, bytesOf(visit.first), fd, name));
    } else if (node.kind === "directory") {
      // The root is there already.
      if (path !== "") this.#descend(visit, name);
    } else {
      if (node.kind === "file") await this.#file(visit, node, name);
      else this.#done(visit, "create", makeNode(fd, name, node));
      this.#dress(visit, name);
    }
    this.#report(1, node.kind === "file" && visit.first === undefined ? node.size : 0);
  }

  leave(visit: Leave): void {
    this.#dress(visit, SELF);
    const { fd, parent } = this.#here;
    if (parent === undefined) return;
    this.#here = parent;
    closeSync(fd);
  }

  #descend(visit: Enter, name: Uint8Array): void {
    const parent = this.#here;
    this.#done(visit, "create", mkdirAt(parent.fd, name));
    const fd = this.#done(visit, "open", openDirectoryAt(parent.fd, name));
    this.#here = { fd, parent };
  }

  async #file(visit: Enter, file: RegularFile, name: Uint8Array): Promise<void> {
    const fd = this.#done(visit, "create", createAt(this.#here.fd, name));
    try {
      for await (const data of this.#contents.next(file)) this.#write(visit, fd, data);
    } finally {
      closeSync(fd);
    }
  }

  #write(visit: Enter, fd: number, data: Uint8Array): void {
    try {
      for (let done = 0; done < data.byteLength; ) done += writeSync(fd, data, done);
    } catch (error) {
      throw toNydusError(error, `write "${shown(visit)}"`);
    }
  }

  /**
   * The owner comes first, because chown(2) takes setuid bits and capabilities away; the time comes last, because
   * everything else changes it.
   */
  #dress(visit: Enter | Leave, name: Uint8Array): void {
    const { fd } = this.#here;
    const { mode, uid, gid, mtime, mtimeNs, xattrs } = visit.node.attributes;
    this.#done(visit, "set the owner of", chownAt(fd, name, uid, gid));
    if (visit.node.kind !== "symlink") this.#done(visit, "set the mode of", chmodAt(fd, name, mode));
    const path = Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), name]);
    for (const [key, value] of xattrs)
      this.#done(visit, `set xattr "${printable(key)}" of`, setXattr(path, bytesOf(key), value));
    this.#done(visit, "set the time of", setTimeAt(fd, name, mtime, mtimeNs));
  }

  /** @returns what the call returned, unless that was -errno */
  #done(visit: Enter | Leave, verb: string, result: number): number {
    if (result >= 0) return result;
    const code = errnoName(-result);
    throw toNydusError(Object.assign(new Error(code), { code }), `${verb} "${shown(visit)}"`);
  }

  [Symbol.dispose](): void {
    for (let place: Place | undefined = this.#here; place !== undefined; place = place.parent)
      closeSync(place.fd);
  }
}

function makeNode(fd: number, name: Uint8Array, node: Exclude<Node, Directory | RegularFile>): number {
  switch (node.kind) {
    case "symlink":
      return symlinkAt(fd, name, bytesOf(node.target));
    case "char":
    case "block":
      return mknodAt(fd, name, S_IF[node.kind], node);
    case "fifo":
    case "socket":
      return mknodAt(fd, name, S_IF[node.kind], { major: 0, minor: 0 });
  }
}

function shown({ path }: Enter | Leave): string {
  return `/${printable(path)}`;
}
