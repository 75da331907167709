import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { golden, hasGolden } from "../../../tests/support/golden.ts";
import { openBootstrap } from "../bootstrap.ts";
import { checkBootstrap } from "../check.ts";
import { readChunks } from "../chunk-maps.ts";
import { bootstrapOf } from "../oci-layout.test-support.ts";
import { readTree as readTreeV6 } from "../tree-reader.ts";
import { V5Bootstrap } from "./bootstrap.ts";
import { checkV5 } from "./check.ts";
import { chunkMaps } from "./chunk-maps.ts";
import { erofsBootstrap } from "./erofs.ts";
import { readTree } from "./tree-reader.ts";

const IMAGES = {
  "v5-zstd (blake3)": () => bootstrapOf(golden("images", "v5-zstd")),
  "v5-lz4 (blake3)": () => bootstrapOf(golden("images", "v5-lz4")),
  "v5-sha256": async () => readFileSync(golden("direct", "v5-sha256", "bootstrap")),
};

describe.skipIf(!hasGolden).each(Object.entries(IMAGES))("golden %s", (_, load) => {
  test("passes the complete check", async () => {
    expect(await checkV5(await load())).toEqual([]);
  });

  test("becomes an EROFS bootstrap that passes v6's complete check", async () => {
    expect(checkBootstrap(erofsBootstrap(new V5Bootstrap(await load())))).toEqual([]);
  });

  test("becomes an EROFS bootstrap with the same tree and the same chunks", async () => {
    const v5 = new V5Bootstrap(await load());
    const v6 = openBootstrap(erofsBootstrap(v5));
    expect(readTreeV6(v6)).toEqual(readTree(v5, "local"));
    expect(readChunks(v6).map(({ map }) => map)).toEqual(chunkMaps(v5));
  });
});
