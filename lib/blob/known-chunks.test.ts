import fc from "fast-check";
import { expect, test } from "vitest";
import { type ChunkMap, emptyChunkMap } from "../rafs/chunk-map.ts";
import { CHUNK_STATES, type Claim } from "./claims.ts";
import { KnownChunks } from "./known-chunks.ts";

const SIZE = 4096;

function mapOf(places: readonly number[]): ChunkMap {
  const facts = { blobId: "", compressor: "none", digester: "sha256" } as const;
  const map = emptyChunkMap({ ...facts, compressedSize: 0, uncompressedSize: 0 }, places.length);
  for (const [i, place] of places.entries()) {
    map.uncompressedOffset[i] = place * SIZE;
    map.uncompressedLength[i] = place + 1;
    map.digests.fill(place, 32 * i, 32 * i + 32);
  }
  return map;
}

function claimOf(place: number, state: Claim["state"], slot: number | undefined): Claim {
  return { offset: place * SIZE, length: place + 1, digest: new Uint8Array(32).fill(place), state, slot };
}

const places = fc.uniqueArray(fc.nat(60));
const claims = fc.uniqueArray(
  fc.record({ place: fc.nat(60), state: fc.constantFrom(...CHUNK_STATES), slot: fc.option(fc.nat(9)) }),
  { selector: ({ place }) => place },
);

test("KnownChunks finds what it was made of, with the chunks of other maps between", () => {
  fc.assert(
    fc.property(claims, fc.array(places), (loaded, others) => {
      const expected = new Map(
        loaded.map(({ place, state, slot }) => [place, claimOf(place, state, slot ?? undefined)]),
      );
      let known = KnownChunks.of([...expected.values()]);
      for (const more of others) {
        known = known.with(mapOf(more.toSorted((a, b) => a - b)));
        for (const place of more)
          if (!expected.has(place)) expected.set(place, claimOf(place, "absent", undefined));
      }
      expect(known.count).toBe(expected.size);
      for (let place = 0; place <= 61; place++) {
        const at = known.find(place * SIZE);
        expect(at < 0 ? undefined : known.at(at)).toEqual(expected.get(place));
      }
      const inside = known.between(7 * SIZE, 20 * SIZE).map((i) => known.offset(i) / SIZE);
      expect(inside).toEqual([...expected.keys()].filter((p) => p >= 7 && p < 20).sort((a, b) => a - b));
    }),
  );
});
