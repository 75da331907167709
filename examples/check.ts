/** Finds all that is wrong with an image, and tells damage from other failures. @module */
import {
  checkData,
  checkImage,
  isCode,
  loadImage,
  NydusError,
  NydusImage,
  openStore,
  readBootstrapLayer,
} from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
await using image = await NydusImage.open({ location: sample.location });
const { chunks, violations } = await checkData(image);
console.log(chunks, "chunks verified,", violations.length, "violations");

const { store, reference } = await openStore(sample.location);
await using _store = store;
const bootstrap = await readBootstrapLayer(store, await loadImage(store, reference));
bootstrap.fill(0, 1024 + 36, 1024 + 40); // the superblock counts the blocks of all devices
for (const { offset, message } of await checkImage(bootstrap)) console.log(`at ${offset}: ${message}`);

try {
  await NydusImage.open({ location: `oci:${sample.directory}/nydus:none` });
} catch (error) {
  console.log(isCode(error, "not_found"), error instanceof NydusError);
}

// Prints:
//   4 chunks verified, 0 violations
//   at 1060: the superblock counts 0 blocks, the devices have 734
//   true true
