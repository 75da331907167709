/** Makes an ordinary image of a Nydus image again, and compares the two. @module */
import { diffContents, openContent, reverse } from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
const target = `oci:${sample.directory}/plain:latest`;
const report = await reverse({ location: sample.location, target });
console.log(report.layers.length, "layer");

await using before = await openContent({ location: sample.location });
await using after = await openContent({ location: target });
let differences = 0;
for await (const { path, change } of diffContents(before, after)) {
  differences++;
  console.log(change, path);
}
console.log(differences, "differences");

// Prints:
//   1 layer
//   0 differences
