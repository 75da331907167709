import fc from "fast-check";
import { expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { NydusError } from "../base/error.ts";
import { openBootstrap } from "./bootstrap.ts";
import { Broken, SAMPLE } from "./broken-bootstrap.test-support.ts";
import { checkBootstrap } from "./check.ts";
import { readChunks } from "./chunk-maps.ts";
import { extendedInode } from "./inode.ts";
import { attributes, sampleTree } from "./sample-tree.test-support.ts";
import { readTree } from "./tree-reader.ts";
import { writeBootstrap } from "./writer.ts";

const I = extendedInode.fields;

test("checkBootstrap() finds nothing wrong with what writeBootstrap() wrote", () => {
  expect(checkBootstrap(SAMPLE)).toEqual([]);
});

test("checkBootstrap() stops at a thousand violations", () => {
  const { root, blobs } = sampleTree();
  for (let i = 0; i < 1500; i++)
    root.entries.set(byteStringOf(`fifo-${i}`), { kind: "fifo", attributes: attributes() });
  const bytes = writeBootstrap(root, blobs.options);
  const image = openBootstrap(bytes);
  for (const { nid, type } of [...image.readdir(image.rootNid)])
    if (type === "fifo") I.nlink.write(image.view, image.raw(nid).at, 0);
  expect(checkBootstrap(bytes)).toHaveLength(1000);
});

test("checkBootstrap() ends soon when inodes share what only one can own", () => {
  const broken = new Broken();
  // Every file claims all that follows it as its chunk indexes.
  for (const { nid, type } of [...broken.image.readdir(broken.nid("many"))]) {
    const { at, headSize } = broken.image.raw(nid);
    const room = Math.floor((broken.bytes.length - at - headSize) / 8) - 1;
    if (type === "file") I.size.write(broken.view, at, 4096 * room);
  }
  const messages = checkBootstrap(broken.bytes).map(({ message }) => message);
  const shared = messages.filter((message) => message === "its inodes claim more bytes than the file has");
  expect(shared.length).toBeGreaterThan(390);
});

/** All that the user-space file system may ask of an image that was never checked. */
function useEverything(bytes: Uint8Array): void {
  const image = openBootstrap(bytes);
  const attempt = (work: () => unknown): void => {
    try {
      work();
    } catch (error) {
      if (!(error instanceof NydusError)) throw error;
    }
  };
  attempt(() => readChunks(image));
  attempt(() => readTree(image));
  attempt(() => {
    for (const { nid, name } of image.readdir(image.rootNid)) {
      attempt(() => image.lookup(image.rootNid, name));
      attempt(() => image.inode(nid));
      attempt(() => image.xattrs(nid));
      attempt(() => image.extents(nid, 0, 2 ** 20));
      attempt(() => image.readlink(nid));
    }
  });
}

test("nothing but a NydusError comes of damaged images", { timeout: 120_000 }, () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(damage, fc.nat(), (changes, cut) => {
      const bytes = SAMPLE.slice();
      // Zeros are most of the file: aim at the bytes that say something.
      for (const [at, value] of changes) bytes[meaningful[at % meaningful.length] ?? 0] = value;
      const end = cut % 4 === 0 ? cut % bytes.length : bytes.length;
      const damaged = bytes.subarray(0, end);
      const violations = checkBootstrap(damaged);
      try {
        useEverything(damaged);
      } catch (error) {
        expect(error).toBeInstanceOf(NydusError);
        expect(violations).not.toEqual([]);
      }
    }),
    { numRuns: 600 },
  );
});

const meaningful = [...SAMPLE.keys()].filter((at) => SAMPLE[at] !== 0);
