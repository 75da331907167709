/** Makes a Nydus image of an image or a directory, and copies it elsewhere. @module */
import { convert, copyImage, isNydusImage, loadImage, openStore } from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
const target = `oci:${sample.directory}/v5:latest`;
const report = await convert({
  source: sample.source,
  target,
  compressor: "lz4_block",
  fsVersion: 5,
  chunkSize: 65_536,
});
console.log(report.layers.length, "layer,", report.layers[0]?.chunks, "chunks");

const from = await openStore(target);
await using _from = from.store;
const image = await loadImage(from.store, from.reference);
console.log("is Nydus:", isNydusImage(image.manifest));

const to = await openStore(`oci-archive:${sample.directory}/copy.tar:latest`, { create: true });
await using _to = to.store;
const copied = await copyImage(from.store, image.descriptor, to.store, to.reference);
console.log(
  "copied",
  copied.blobs,
  "blobs, the same image:",
  copied.descriptor.digest === report.targetDigest,
);

// Prints:
//   1 layer, 47 chunks
//   is Nydus: true
//   copied 3 blobs, the same image: true
