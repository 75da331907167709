/**
 * OCI to RAFS and back keeps every entry, and both ways give the same bytes each time, whatever the machine was doing.
 */
import { mkdir } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

interface Report {
  readonly targetDigest: string;
  readonly layers: readonly unknown[];
  readonly squashed?: string;
}

async function convert(place: Workspace, ...words: string[]): Promise<Report> {
  const { stdout } = await place.tool(["convert", "--json", ...words]);
  return JSON.parse(stdout) as Report;
}

/** Of images, by the flags that make them. */
const KINDS = {
  v6: [],
  small: ["--compressor", "lz4_block", "--digester", "blake3", "--chunk-size", "64K"],
  v5: ["--fs-version", "5"],
  reference: ["--oci-ref"],
} as const;
type Kind = keyof typeof KINDS;

/** Converts, converts back, and compares the ends. @returns digests of both results */
async function roundTrip(
  place: Workspace,
  source: string,
  kind: Kind,
  flags: readonly string[] = [],
): Promise<readonly string[]> {
  const name = `${kind}${flags.length}`;
  const nydus = `oci:${place.path(`nydus-${name}`)}:n`;
  const back = `oci:${place.path(`back-${name}`)}:b`;
  const there = await convert(place, ...KINDS[kind], ...flags, source, nydus);
  const again = await convert(place, "--reverse", nydus, back);
  expect(again).toMatchObject({ layers: { length: 3 } });
  expect(again.squashed).toBeUndefined();
  expect(await place.tool(["diff", source, back])).toMatchObject({ code: 0, stdout: "" });
  return [there.targetDigest, again.targetDigest];
}

/** Nothing of the work directory, or of how many layers run at a time, may show. */
async function twice(place: Workspace, source: string, kind: Kind): Promise<void> {
  const work = place.path("work");
  await mkdir(work, { recursive: true });
  const first = await roundTrip(place, source, kind);
  expect(await roundTrip(place, source, kind, ["--concurrency", "1", "--work-dir", work])).toEqual(first);
}

test("a made image comes back from RAFS v6 and v5 with the same files and layers", async () => {
  const place = await workspace();
  const { layers } = makeImage(461);
  await writeLayout(place.path("source"), layers.map(tarOf));
  const source = `oci:${place.path("source")}:t`;
  await twice(place, source, "v6");
  await roundTrip(place, source, "v5");
});

describe.skipIf(!hasGolden)("golden hard", () => {
  const source = `oci:${golden("hard", "oci")}:t`;

  test.each(["v6", "reference"] as const)("golden hard comes back from %s, twice the same", async (kind) => {
    await twice(await workspace(), source, kind);
  });

  test.each(["small", "v5"] as const)("golden hard comes back from %s", async (kind) => {
    await roundTrip(await workspace(), source, kind);
  });
});
