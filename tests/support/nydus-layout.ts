/**
 * Nydus images in OCI layouts, made by the library from layers of a test.
 *
 * @module
 */
import { join } from "node:path";
import { convert } from "../../lib/convert/convert.ts";
import type { ConvertOptions } from "../../lib/convert/image.ts";
import { writeLayout } from "./oci-layout.ts";
import { type TarItem, tarOf } from "./tar-builder.ts";

export interface NydusLayout {
  /** As `openStore` takes it: the image that was converted, and what became of it. */
  readonly plain: string;
  readonly nydus: string;
  /** Where the Nydus image's blobs lie. */
  readonly directory: string;
}

/** @param name tells several images of one directory apart */
export async function writeNydusLayout(
  directory: string,
  layers: readonly (readonly TarItem[])[],
  options: Partial<ConvertOptions> & { readonly name?: string } = {},
): Promise<NydusLayout> {
  const { name = "image", ...rest } = options;
  const source = await writeLayout(join(directory, `${name}-plain`), layers.map(tarOf));
  const plain = `oci:${source.directory}:${source.tag}`;
  const target = join(directory, `${name}-nydus`);
  const nydus = `oci:${target}:n`;
  const format = { compressor: "zstd", digester: "sha256", chunkSize: 2 ** 20 } as const;
  await convert({ source: plain, target: nydus, ...format, concurrency: 1, ...rest });
  return { plain, nydus, directory: target };
}
