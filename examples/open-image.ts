/** Opens an image and walks through it. Nothing but manifest, config and bootstrap is fetched. @module */
import { dumpTree, NydusImage, nodeAt, printable, visits } from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
await using image = await NydusImage.open({ location: sample.location });

for (const visit of visits(image.root)) {
  if (visit.kind === "leave") continue;
  console.log(`/${printable(visit.path)}`, visit.node.kind);
}

const link = nodeAt(image.root, "/hello");
if (link.kind === "symlink") console.log("points to", printable(link.target));

console.log(Array.from(dumpTree(image.root)).length, "lines with all attributes");

// Prints:
//   / directory
//   /bin directory
//   /bin/hello file
//   /hello symlink
//   /numbers file
//   points to bin/hello
//   5 lines with all attributes
