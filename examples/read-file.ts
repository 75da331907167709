/** Reads a part of a file: only the chunks that it touches are fetched, and each is verified. @module */
import { NydusImage, nodeAt } from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
await using image = await NydusImage.open({ location: sample.location });

const file = nodeAt(image.root, "/numbers");
if (file.kind !== "file") throw new Error("it is a file");
console.log(file.size, "bytes in", file.chunks.length, "chunks");

let sum = 0;
for await (const piece of image.read(file, { start: 2_000_000, end: 2_000_010 }))
  for (const byte of piece) sum += byte;
console.log("sum of ten bytes:", sum);

// Prints:
//   3000000 bytes in 3 chunks
//   sum of ten bytes: 365
