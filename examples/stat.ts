/** Says where the bytes of images go. @module */
import { NydusImage, statImages } from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
await using image = await NydusImage.open({ location: sample.location });
const { images, together } = await statImages([image, image]);
console.log(images[0]?.referenced.bytes, "bytes of files,", images[0]?.distinct.count, "chunks");
console.log("shared:", together !== undefined && together.stored < together.alone);

// Prints:
//   3000021 bytes of files, 4 chunks
//   shared: true
