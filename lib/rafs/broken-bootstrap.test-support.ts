/**
 * A good bootstrap, and handles on what a test wants to break in it.
 *
 * @module
 */
import { expect } from "vitest";
import type { ByteString } from "../base/byte-string.ts";
import { viewOf } from "../base/struct.ts";
import { type Bootstrap, openBootstrap } from "./bootstrap.ts";
import { checkBootstrap } from "./check.ts";
import { chunkIndexes } from "./inode-reader.ts";
import { sampleTree } from "./sample-tree.test-support.ts";
import { writeBootstrap } from "./writer.ts";

export const SAMPLE = ((): Uint8Array => {
  const { root, blobs } = sampleTree();
  return writeBootstrap(root, blobs.options);
})();

/** A copy of the sample, with handles on what a test wants to break. */
export class Broken {
  readonly bytes = SAMPLE.slice();
  readonly view = viewOf(this.bytes);
  readonly image: Bootstrap = openBootstrap(this.bytes);

  nid(path: string): number {
    return path
      .split("/")
      .filter((name) => name !== "")
      .reduce(
        (nid, name) => this.image.lookup(nid, name as ByteString) ?? expect.fail(path),
        this.image.rootNid,
      );
  }

  inode(path: string): number {
    return this.image.raw(this.nid(path)).at;
  }

  /** Where the first chunk index of a file is. */
  index(path: string): number {
    return chunkIndexes(this.view, this.image.raw(this.nid(path)), 4096).offset;
  }

  get chunkTable(): number {
    return this.image.superblock.chunkTable.offset;
  }

  get blobTable(): number {
    return this.image.superblock.blobTable.offset;
  }

  /** Where the root's entry of this name is: the root is small and lies in one inline block. */
  entry(name: string): number {
    const root = this.image.raw(this.image.rootNid);
    const names = [...this.image.readdir(root.nid)].map((entry) => entry.name);
    return root.at + root.headSize + 12 * names.indexOf(name as ByteString);
  }

  /** Where the bytes of that name are. */
  name(name: string): number {
    const root = this.image.raw(this.image.rootNid);
    return root.at + root.headSize + this.view.getUint16(this.entry(name) + 8, true);
  }
}

export type Case = readonly [what: string, damage: (broken: Broken) => void, path: string, message: string];

/** @param message a part of it */
export function expectViolation([, damage, path, message]: Case): void {
  const broken = new Broken();
  damage(broken);
  expect(checkBootstrap(broken.bytes)).toContainEqual({
    path,
    offset: expect.any(Number),
    message: expect.stringContaining(message),
  });
}
