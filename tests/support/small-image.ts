/** An image that is small enough to be made again by each test. @module */

import { fileNode, itemsOf, type Model, node } from "./model.ts";
import { type WrittenLayout, writeLayout } from "./oci-layout.ts";
import { Random } from "./random.ts";
import { tarOf } from "./tar-builder.ts";

/** Two files that compress, two that do not, one of them several chunks long. */
export function smallModel(): Model {
  const random = new Random(5);
  return new Map([
    ["", node("dir", { implicit: true })],
    ["prose", fileNode(random.prose(90_000))],
    ["noise", fileNode(random.noise(70_000))],
    ["large", fileNode(random.noise(1_500_000))],
    ["last", fileNode(random.prose(5000))],
  ]);
}

/** An OCI layout with the image as tag "t". */
export function writeSmallImage(directory: string): Promise<WrittenLayout> {
  return writeLayout(directory, [tarOf(itemsOf(smallModel()))]);
}
