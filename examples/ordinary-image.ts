/** Reads a file of an image that is no Nydus image. @module */
import { adoptForNow, NydusImage, nodeAt, reverse } from "../mod.ts";
import { sampleImage } from "./sample-image.ts";

await using sample = await sampleImage();
const location = `oci:${sample.directory}/plain:latest`;
await reverse({ location: sample.location, target: location });

await using image = await NydusImage.open({ location, adopt: adoptForNow });
const file = nodeAt(image.root, "/bin/hello");
if (file.kind !== "file") throw new Error("it is a file");
for await (const piece of image.read(file)) console.log(Buffer.from(piece).toString().trim());

// Prints:
//   #!/bin/sh
//   echo hello
