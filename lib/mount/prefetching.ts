/**
 * What is fetched ahead for a mount, and in which order: first a blob made for that, in one stream; then what somebody
 * asked for; then the best that is known of the image's start: what an earlier run here read, or else the list that is
 * kept beside the image, or else the table in its bootstrap.
 *
 * @module
 */
import { toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { Trace } from "../blob/trace.ts";
import type { RafsImage } from "../rafs/image.ts";
import type { ImageBlobs } from "./image-blobs.ts";
import { hotBlobs, pathRanges, tableRanges } from "./prefetch-ranges.ts";

export interface PrefetchSources {
  readonly id: string;
  readonly image: RafsImage;
  readonly blobs: ImageBlobs;
  readonly log: Logger;
  /** Paths that somebody asked for. */
  readonly paths?: readonly string[];
  /** What is known on this node. */
  readonly known: Trace | undefined;
  /** What is kept beside the image. */
  readonly kept: () => Promise<Trace | undefined>;
}

/** Resolves when all is there or no longer wanted. Never rejects: nobody waits for it. */
export async function fetchAhead(sources: PrefetchSources): Promise<void> {
  const { id, image, blobs, log, paths = [], known } = sources;
  try {
    const hot = hotBlobs(image);
    for (const blob of hot) await blobs.stream(blob);
    if (paths.length > 0) await blobs.prefetch(pathRanges(image, paths));
    const [trace, from] = known === undefined ? await keptOrTable(sources, hot) : [known, "an earlier run"];
    if (trace.length === 0 || blobs.wanted.aborted) return;
    log.info("fetching ahead", { mount: id, ranges: trace.length, from });
    await blobs.prefetch(trace);
  } catch (error) {
    log.warn(toNydusError(error, "fetch ahead").message, { mount: id });
  }
}

async function keptOrTable(
  { image, kept }: PrefetchSources,
  hot: readonly number[],
): Promise<[trace: Trace, from: string]> {
  const list = await kept();
  if (list !== undefined) return [list, "the list beside the image"];
  // The table names whole files; of those that matter the hot blob has what matters.
  return [hot.length > 0 ? [] : tableRanges(image), "the prefetch table"];
}
