/** Takes a bootstrap apart, changes its tree and writes another one. @module */
import {
  byteStringOf,
  chunkHasher,
  directory,
  imageFacts,
  NydusImage,
  openImage,
  readTree,
  writeImage,
} from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
await using image = await NydusImage.open({ location: sample.location });
const facts = imageFacts(image.bootstrap, { sound: true });
console.log(`RAFS v${facts.version}, ${facts.compressor}, ${facts.blobs.length} blob`);

const tree = readTree(image.bootstrap);
tree.entries.set(byteStringOf("empty"), directory({ ...tree.attributes, mode: 0o700 }));
const { version, superblock, blobs } = image.bootstrap;
if (version !== 6) throw new Error("it is v6");
const infos = new Map(blobs.map((blob) => [blob.id, blob]));
const bytes = writeImage(tree, {
  version,
  hasher: await chunkHasher(superblock.digester),
  chunkSize: superblock.chunkSize,
  compressor: superblock.compressor,
  blobs: ({ id }) => infos.get(id) ?? blobs[0] ?? fail(),
});
console.log(readTree(openImage(bytes)).entries.size, "entries in the root");

function fail(): never {
  throw new Error("the image has blobs");
}

// Prints:
//   RAFS v6, zstd, 1 blob
//   4 entries in the root
