/**
 * Cuts a gzip layer into windows: stretches from one checkpoint to the end of the last part that is entered there, each
 * of which can be decoded by itself.
 *
 * @module
 */
import type { Checkpoint } from "../content/checkpoints.ts";
import type { GzipWindow } from "../rafs/chunk-map.ts";

/** What `IndexedGunzip` learns of a gzip file. */
export interface GzipIndex {
  readonly checkpoints: readonly Checkpoint[];
  inputFor(outOffset: number): number;
  inputBefore(outOffset: number): number;
}

/** A stretch of the decoded layer. */
export interface LayerPart {
  readonly start: number;
  readonly length: number;
}

export interface PlacedWindow {
  readonly window: GzipWindow;
  /** Parts [first, end) are in it. */
  readonly first: number;
  readonly end: number;
}

/**
 * Each part goes to the last checkpoint before it; a checkpoint that no part needs makes no window.
 *
 * @param parts in order
 */
export function placeInWindows(parts: readonly LayerPart[], index: GzipIndex): PlacedWindow[] {
  const { checkpoints } = index;
  const groups: Group[] = [];
  let next = 0;
  for (const [i, { start }] of parts.entries()) {
    let checkpoint: Checkpoint | undefined;
    for (
      let ahead = checkpoints[next];
      ahead !== undefined && ahead.outOffset <= start;
      ahead = checkpoints[next]
    ) {
      checkpoint = ahead;
      next++;
    }
    const group = groups.at(-1);
    if (checkpoint !== undefined) groups.push({ checkpoint, first: i, end: i + 1 });
    else if (group !== undefined) group.end = i + 1;
  }
  return groups.map((group) => ({
    first: group.first,
    end: group.end,
    window: windowOf(group, parts, index),
  }));
}

/** What input a part takes. */
export function inputOf(
  { start, length }: LayerPart,
  { inOffset }: Pick<GzipWindow, "inOffset">,
  index: GzipIndex,
): { readonly offset: number; readonly size: number } {
  const offset = Math.max(inOffset, index.inputBefore(start));
  return { offset, size: Math.max(1, index.inputFor(start + length) - offset) };
}

/** The parts [first, end) that are reached from one checkpoint. */
interface Group {
  readonly checkpoint: Checkpoint;
  readonly first: number;
  end: number;
}

function windowOf(
  { checkpoint, first, end }: Group,
  parts: readonly LayerPart[],
  index: GzipIndex,
): GzipWindow {
  const { inOffset, outOffset, bits, previousByte, window: dictionary } = checkpoint;
  let inEnd = inOffset + 1;
  let outEnd = outOffset;
  for (const part of parts.slice(first, end)) {
    const input = inputOf(part, checkpoint, index);
    inEnd = Math.max(inEnd, input.offset + input.size);
    outEnd = Math.max(outEnd, part.start + part.length);
  }
  const sizes = { storedSize: inEnd - inOffset, size: outEnd - outOffset };
  return { kind: "window", inOffset, outOffset, bits, previousByte, dictionary, ...sizes };
}
