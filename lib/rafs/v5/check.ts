/**
 * The complete check of a v5 bootstrap: every structure that can be reached is in bounds and says what the others say,
 * and every inode has the digest of its content. All violations are reported, each with path and offset.
 *
 * The work is bounded by the length of the file, however the image is twisted: each inode is looked at a fixed number
 * of times, and what inodes claim to own may not be more than there is.
 *
 * @module
 */
import { type ChunkHasher, chunkHasher, sameBytes } from "../../base/digest.ts";
import { BrokenRule, type Complain } from "../broken-rule.ts";
import { type Here, Report, TABLES, type Violation } from "../check-report.ts";
import { unreadable } from "../superblock-reader.ts";
import { MAX_DEPTH } from "../tree-reader.ts";
import { V5Bootstrap } from "./bootstrap.ts";
import { InodeChecker } from "./check-inode.ts";
import { chunkMaps } from "./chunk-maps.ts";
import { inodeRecord, ROOT_INO } from "./inode.ts";
import { contentDigest } from "./inode-digest.ts";
import { inodeCount, type RawInode } from "./inode-reader.ts";
import { ALIGNMENT, SUPERBLOCK_SIZE } from "./superblock.ts";

/** All that is wrong with a bootstrap, up to a thousand things; empty when it may be trusted. */
export async function checkV5(bytes: Uint8Array): Promise<Violation[]> {
  const report = new Report(bytes);
  let soundBlobs = true;
  const complain: Complain = (broken) => {
    // Offsets below are those of the superblock, which says nothing about single blobs.
    if (!(broken instanceof BrokenRule) || broken.offset >= SUPERBLOCK_SIZE) soundBlobs = false;
    report.caught(TABLES, 0, broken);
  };
  const image = opened(bytes, report, complain);
  if (image === undefined) return report.violations;
  new Walk(image, await chunkHasher(image.superblock.digester), report).run({ soundBlobs });
  return report.violations;
}

/** Undefined when there are no tables to go by. */
function opened(bytes: Uint8Array, report: Report, complain: Complain): V5Bootstrap | undefined {
  try {
    return new V5Bootstrap(bytes, complain);
  } catch (error) {
    report.caught(TABLES, 0, error);
    return undefined;
  }
}

const I = inodeRecord.fields;
const NOBODY = 0;

class Walk {
  readonly #image: V5Bootstrap;
  readonly #hasher: ChunkHasher;
  readonly #report: Report;
  readonly #inodes: InodeChecker;
  readonly #count: number;
  /** By inode number: 1 when its record makes so little sense that its content cannot be looked at. */
  readonly #givenUp: Uint8Array;
  /** The inode that is being looked at. */
  #current = ROOT_INO;
  /** By inode number: the directory that has it, and how deep it lies. */
  readonly #owner: Uint32Array;
  readonly #depth: Uint16Array;

  constructor(image: V5Bootstrap, hasher: ChunkHasher, report: Report) {
    this.#image = image;
    this.#hasher = hasher;
    this.#report = report;
    this.#inodes = new InodeChecker(image, (broken) => this.#note(broken));
    this.#count = inodeCount(image.superblock);
    this.#givenUp = new Uint8Array(this.#count + 1);
    this.#owner = new Uint32Array(this.#count + 1);
    this.#depth = new Uint16Array(this.#count + 1);
  }

  /** @param options.soundBlobs whether anything true is known of the blobs that chunks are in */
  run({ soundBlobs }: { readonly soundBlobs: boolean }): void {
    this.#each((inode) => this.#structure(inode));
    const { prefetchTable } = this.#image.superblock;
    this.#report.guard(TABLES, prefetchTable.offset, () => this.#prefetch());
    if (soundBlobs && !this.#givenUp.includes(1))
      this.#report.guard(TABLES, 0, () => {
        chunkMaps(this.#image, (broken) => this.#report.caught(TABLES, 0, broken));
      });
    this.#each((inode) => this.#content(inode));
  }

  #each(look: (inode: RawInode) => void): void {
    for (let number = ROOT_INO; number <= this.#count && !this.#report.full; number++) {
      if (this.#givenUp[number] === 1) continue;
      this.#current = number;
      try {
        look(this.#image.raw(number));
      } catch (error) {
        this.#note(error);
        this.#givenUp[number] = 1;
      }
    }
  }

  #note(error: unknown): void {
    const { superblock, view } = this.#image;
    const record = this.#recordAt(this.#current);
    // An inode that lies nowhere is wrong in the inode table.
    const entry = superblock.inodeTable.offset + 4 * (this.#current - 1);
    this.#report.caught(this.#here(this.#current), record < view.byteLength ? record : entry, error);
  }

  /** A directory has a lower number than what is in it, so whoever owns an inode was looked at before. */
  #structure(inode: RawInode): void {
    const owner = this.#owner[inode.number] ?? NOBODY;
    if (inode.number === ROOT_INO) this.#inodes.root(inode);
    else if (owner === NOBODY) throw unreadable(`inode ${inode.number} is in no directory`);
    else {
      const before = inode.number - 1;
      this.#inodes.name(inode, owner, this.#owner[before] === owner && this.#givenUp[before] === 0);
    }
    this.#inodes.record(inode);
    if (inode.kind === "directory" && inode.childCount > 0) this.#claim(inode);
  }

  #claim({ number, childIndex, childCount }: RawInode): void {
    if (childIndex <= number || childIndex + childCount > this.#count + 1)
      throw unreadable(`its ${childCount} children from number ${childIndex} are not in the inode table`);
    const depth = (this.#depth[number] ?? 0) + 1;
    if (depth > MAX_DEPTH) throw unreadable(`it is more than ${MAX_DEPTH} directories deep`);
    for (let child = childIndex; child < childIndex + childCount; child++) {
      if (this.#owner[child] !== NOBODY) throw unreadable(`inode ${child} is in two directories`);
      this.#owner[child] = number;
      this.#depth[child] = depth;
    }
  }

  #content(inode: RawInode): void {
    const { kind, childIndex, childCount } = inode;
    if (this.#givenUp[this.#image.ino(inode)] !== 0) return;
    // Its digest is made of theirs.
    const below = this.#givenUp.subarray(childIndex, childIndex + childCount);
    if (kind === "directory" && below.includes(1)) return;
    this.#inodes.link(inode);
    const stored = I.digest.read(this.#image.view, inode.at);
    if (!sameBytes(contentDigest(this.#image, inode, this.#hasher), stored))
      throw unreadable("its content does not match its digest");
  }

  #prefetch(): void {
    const { view, superblock } = this.#image;
    const { offset, size } = superblock.prefetchTable;
    for (let at = offset; at < offset + size; at += 4)
      if (view.getUint32(at, true) > this.#count) throw unreadable("the prefetch table names no inode");
  }

  #recordAt(number: number): number {
    const { view, superblock } = this.#image;
    return view.getUint32(superblock.inodeTable.offset + 4 * (number - 1), true) * ALIGNMENT;
  }

  /** The chain of names, as far as it is known: the records may be what is broken. */
  #here(number: number): Here {
    const chain: number[] = [];
    for (let at = number; at > ROOT_INO; at = this.#owner[at] ?? NOBODY) chain.push(at);
    let here: Here = { parent: undefined, nameAt: 0, nameSize: 0 };
    for (const link of chain.reverse())
      here = { parent: here, ...nameRegion(this.#image.view, this.#recordAt(link)) };
    return here;
  }
}

function nameRegion(view: DataView, at: number): Pick<Here, "nameAt" | "nameSize"> {
  const nameAt = at + inodeRecord.size;
  if (nameAt > view.byteLength) return { nameAt: 0, nameSize: 0 };
  return { nameAt, nameSize: Math.min(I.nameSize.read(view, at), view.byteLength - nameAt) };
}
