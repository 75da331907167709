/**
 * The complete check of a bootstrap, before the kernel may parse it: every structure that can be reached is in bounds
 * and says what the others say. All violations are reported, each with path and offset.
 *
 * The work is bounded by the length of the file, however the image is twisted: each inode is looked at once, and what
 * inodes claim to own may not be more than there is.
 *
 * @module
 */
import { Bootstrap } from "./bootstrap.ts";
import { BrokenRule, type Complain } from "./broken-rule.ts";
import { ChunkChecker } from "./check-chunks.ts";
import { checkDevices } from "./check-devices.ts";
import { DirectoryScan } from "./check-directory.ts";
import { type Here, Report, TABLES, type Violation } from "./check-report.ts";
import { SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { dirent, ENTRY_TYPES } from "./dirent.ts";
import { extendedInode, LAYOUT, NID_UNIT } from "./inode.ts";
import {
  blockCount,
  chunkIndexes,
  dataBlock,
  hasXattrs,
  linkCount,
  locateInode,
  type RawInode,
} from "./inode-reader.ts";
import { unreadable } from "./superblock-reader.ts";
import { MAX_DEPTH } from "./tree-reader.ts";

export type { Violation } from "./check-report.ts";

/** Linux PATH_MAX less its NUL. */
const MAX_TARGET = 4095;

export interface Examination {
  /** All that is wrong, up to a thousand things; empty when the bootstrap may be trusted. */
  readonly violations: Violation[];
  /** Whether every chunk of a file is in the chunk table. */
  readonly chunkTableComplete: boolean;
}

export function examineBootstrap(bytes: Uint8Array): Examination {
  return examine(bytes, true);
}

/** What is wrong apart from chunks: with tables, directories and inodes. */
export function checkStructure(bytes: Uint8Array): Violation[] {
  return examine(bytes, false).violations;
}

function examine(bytes: Uint8Array, withChunks: boolean): Examination {
  const report = new Report(bytes);
  let chunkTableComplete = false;
  let soundBlobs = true;
  const complain: Complain = (broken) => {
    // Offsets below are those of the superblocks, which say nothing about single blobs.
    if (!(broken instanceof BrokenRule) || broken.offset >= SLOT_TABLE_OFFSET) soundBlobs = false;
    report.caught(TABLES, 0, broken);
  };
  report.guard(TABLES, 0, () => {
    const image = new Bootstrap(bytes, complain);
    checkDevices(image, report);
    // Chunks of blobs of which nothing true is known would all be wrong.
    const chunks = withChunks && soundBlobs ? new ChunkChecker(image, complain) : undefined;
    new Walk(image, report, chunks).run();
    chunkTableComplete = chunks?.complete === true;
  });
  return { violations: report.violations, chunkTableComplete };
}

/** All that is wrong with a bootstrap, up to a thousand things; empty when it may be trusted. */
export function checkBootstrap(bytes: Uint8Array): Violation[] {
  return examineBootstrap(bytes).violations;
}

/** A directory to be looked at. */
interface Visit extends Here {
  readonly parent: Visit | undefined;
  readonly nid: number;
  readonly depth: number;
}

/** A file whose inode claims several names. */
interface Links {
  found: number;
  readonly claimed: number;
  readonly here: Here;
  readonly at: number;
}

/** What is known about an inode so far. */
const UNSEEN = 0;
const DIRECTORY = 1;
const LEAF = 2;

const D = dirent.fields;
const E = extendedInode.fields;

class Walk {
  readonly #image: Bootstrap;
  readonly #report: Report;
  readonly #chunks: ChunkChecker | undefined;
  /** By nid. */
  readonly #seen: Uint8Array;
  readonly #links = new Map<number, Links>();
  readonly #waiting: Visit[] = [];
  /** Bytes that inodes may still claim: honest ones do not share any. */
  #unclaimed: number;

  constructor(image: Bootstrap, report: Report, chunks: ChunkChecker | undefined) {
    this.#image = image;
    this.#report = report;
    this.#chunks = chunks;
    const { length } = image.bytes;
    this.#seen = new Uint8Array(Math.ceil((length - image.superblock.metaOffset) / NID_UNIT));
    this.#unclaimed = length;
  }

  run(): void {
    const { rootNid } = this.#image;
    const root: Visit = { nid: rootNid, parent: undefined, nameAt: 0, nameSize: 0, depth: 0 };
    if (this.#image.raw(rootNid).kind !== "directory")
      return this.#report.add(root, 0, "the root is not a directory");
    this.#seen[rootNid] = DIRECTORY;
    this.#waiting.push(root);
    for (let visit = this.#waiting.pop(); visit !== undefined; visit = this.#waiting.pop()) {
      if (this.#report.full) return;
      this.#directory(visit);
    }
    const { chunkTable } = this.#image.superblock;
    this.#report.guard(TABLES, chunkTable.offset, () => this.#chunks?.finish());
    for (const { found, claimed, here, at } of this.#links.values())
      if (found !== claimed) this.#report.add(here, at, `it has ${found} names, its inode says ${claimed}`);
  }

  #directory(visit: Visit): void {
    const { nid, depth } = visit;
    const inode = this.#image.raw(nid);
    const { at } = inode;
    if (depth > MAX_DEPTH)
      return this.#report.add(visit, at, `it is more than ${MAX_DEPTH} directories deep`);
    if (inode.size === 0) return this.#report.add(visit, at, 'it has no "." and ".."');
    let children = 0;
    const scan = new DirectoryScan(this.#image, visit, this.#report);
    this.#report.guard(visit, at, () => {
      this.#common(inode, inode.size, visit);
      while (scan.next()) if (this.#entry(scan, visit)) children++;
    });
    if (!scan.complete) return;
    if (scan.dots !== 2) this.#report.add(visit, at, 'it has no "." and ".."');
    const claimed = linkCount(this.#image.view, inode);
    if (claimed !== children + 2)
      this.#report.add(visit, at, `it has ${claimed} links instead of ${children + 2}`);
  }

  /** @returns whether the entry is a directory below */
  #entry(scan: DirectoryScan, visit: Visit): boolean {
    const { view } = this.#image;
    const { entry, nameAt, nameSize } = scan;
    const type = D.type.read(view, entry);
    const here = { parent: visit, nameAt, nameSize };
    let directory = false;
    try {
      const nid = D.nid.read(view, entry);
      if (scan.isDot) {
        const wanted = nameSize === 1 ? visit.nid : (visit.parent ?? visit).nid;
        if (nid !== wanted) throw unreadable(`it is inode ${nid}, not ${wanted}`);
        if (type !== ENTRY_TYPES.directory) throw unreadable("its entry does not say directory");
        return false;
      }
      const inode = locateInode(view, this.#image.superblock, nid);
      directory = inode.kind === "directory";
      if (ENTRY_TYPES[inode.kind] !== type)
        this.#report.add(here, entry, `it is a ${inode.kind}, its entry says type ${type}`);
      if (directory) this.#enter({ ...here, parent: visit, nid, depth: visit.depth + 1 });
      else this.#leaf(inode, here);
    } catch (error) {
      this.#report.caught(here, entry, error);
    }
    return directory;
  }

  #enter(visit: Visit): void {
    if (this.#seen[visit.nid] !== UNSEEN) throw unreadable("the directory is reached twice");
    this.#seen[visit.nid] = DIRECTORY;
    this.#waiting.push(visit);
  }

  #leaf(inode: RawInode, here: Here): void {
    const { nid, kind, at, size } = inode;
    const claimed = linkCount(this.#image.view, inode);
    if (this.#seen[nid] !== UNSEEN) {
      const links = this.#links.get(nid);
      if (links === undefined) throw unreadable(`its inode has more names than the ${claimed} it says`);
      links.found++;
      return;
    }
    this.#seen[nid] = LEAF;
    if (claimed === 0) this.#report.add(here, at, "it has 0 links");
    if (claimed > 1) this.#links.set(nid, { found: 1, claimed, here, at });
    try {
      if (kind === "file") this.#file(inode, here);
      else if (kind === "symlink") this.#symlink(inode, here);
      else {
        this.#common(inode, 0, here);
        if (size !== 0 || inode.layout !== LAYOUT.plain) throw unreadable(`a ${kind} has data`);
      }
    } catch (error) {
      this.#report.caught(here, at, error);
    }
  }

  #file(inode: RawInode, here: Here): void {
    const { view, superblock } = this.#image;
    this.#common(inode, chunkIndexes(view, inode, superblock.chunkSize).size, here);
    this.#chunks?.check(inode, (broken) => this.#report.caught(here, inode.at, broken));
  }

  #symlink(inode: RawInode, here: Here): void {
    if (inode.size === 0 || inode.size > MAX_TARGET) throw unreadable(`its target has ${inode.size} bytes`);
    this.#common(inode, inode.size, here);
    for (let k = 0; k < blockCount(inode); k++) dataBlock(this.#image.view, inode, k);
    if (this.#image.readlink(inode.nid).includes(0)) throw unreadable("its target has a NUL byte");
  }

  /** What every inode has: a place of its own, a time, xattrs. @throws corrupt when it has no place of its own */
  #common(inode: RawInode, dataSize: number, here: Here): void {
    const { at } = inode;
    this.#unclaimed -= inode.headSize + dataSize;
    if (this.#unclaimed < 0) throw unreadable("its inodes claim more bytes than the file has");
    if (inode.extended && E.mtimeNs.read(this.#image.view, at) >= 1e9)
      this.#report.add(here, at, "its time has more than a second of nanoseconds");
    if (hasXattrs(inode)) this.#report.guard(here, at, () => this.#image.xattrs(inode.nid));
  }
}
