/** Lays the bootstraps of layers over each other. @module */
import { mergeBootstraps, NydusImage, openImage, readLayerFile } from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
await using image = await NydusImage.open({ location: sample.location });
const [layer] = image.image?.manifest.layers ?? [];
const blob = `${sample.directory}/nydus/blobs/${layer?.digest.replace(":", "/")}`;

const merged = await mergeBootstraps([await readLayerFile(blob)]);
console.log("the image's own bootstrap:", Buffer.compare(merged.bytes, image.bootstrap.bytes) === 0);
console.log("its blobs are known:", openImage(merged.bytes).blobs[0]?.id === merged.blobs[0]);

// Prints:
//   the image's own bootstrap: true
//   its blobs are known: true
