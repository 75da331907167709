/** Chain IDs: the name of a stack of layers. Spec: image-spec/config.md, "Layer ChainID". @module */

import { createHash } from "node:crypto";
import { type Digest, parseDigest } from "../base/digest.ts";

/** One chain ID for each layer, bottom first; each names its layer on top of all those below. */
export function chainIds(diffIds: readonly Digest[]): readonly Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : digestOfText(`${below} ${diffId}`));
  }
  return chain;
}

function digestOfText(text: string): Digest {
  return parseDigest(`sha256:${createHash("sha256").update(text).digest("hex")}`, "a chain ID");
}
