/** Puts all of an image on disk: as a tar, which needs no rights, or as a directory, which needs root. @module */
import { NydusImage, treeToTar, unpackDirectory } from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
await using image = await NydusImage.open({ location: sample.location });

let size = 0;
for await (const piece of treeToTar(image.root, (wanted) => image.chunks(wanted))) size += piece.byteLength;
console.log("tar of whole blocks:", size % 512 === 0);

const out = `${sample.directory}/out`;
await unpackDirectory(image.root, out, (wanted) => image.chunks(wanted));
console.log(await Bun.file(`${out}/bin/hello`).text());

// Prints:
//   tar of whole blocks: true
//   #!/bin/sh
//   echo hello
//
