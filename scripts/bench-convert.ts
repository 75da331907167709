/** Conversion from registry to registry: seconds and size. @module */
import { type Place, tool } from "./bench-place.ts";

export async function benchConvert({ registry, plain, lazy, rounds, table }: Place): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    // The first one is what the other parts run; its name in the registry is the one behind the proxy.
    const name = `${registry.host}/${lazy.slice(lazy.indexOf("/") + 1)}`;
    const target = round === 0 ? name : `${name}-${round}`;
    const { seconds, sourceSize, targetSize } = JSON.parse(
      (await tool(["convert", "--json", plain, target])).stdout,
    );
    const what = round === 0 ? "first" : "blobs already there";
    table.add("convert, registry to registry", what, `${seconds.toFixed(2)} s`);
    if (round > 0) continue;
    const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
    table.add("size", "nydus / OCI", `${megabytes(targetSize)} / ${megabytes(sourceSize)} MB`);
  }
}
