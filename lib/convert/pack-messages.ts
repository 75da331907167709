/**
 * What a packing thread and its owner tell each other. A thread packs several layers at a time, a job each. The owner
 * sends pieces of the compressed layer and waits for room; the thread says how much it has taken in.
 *
 * @module
 */
import type { ErrorCode } from "../base/error.ts";
import type { PackedLayer, PackOptions } from "./pack-layer.ts";

/** Bytes of one job that may be on their way to a thread. */
export const MAX_IN_FLIGHT = 4 * 2 ** 20;

export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
}

export type ToPacker = { readonly job: number } & (
  | { readonly kind: "start"; readonly options: Omit<PackOptions, "signal"> }
  | { readonly kind: "piece"; readonly bytes: Uint8Array }
  | { readonly kind: "end" }
  /** The source failed, or nobody wants the layer any more: nothing more comes. */
  | { readonly kind: "broken"; readonly error: PlainError }
);

/** The last two end the job. */
export type FromPacker = { readonly job: number } & (
  | { readonly kind: "taken"; readonly bytes: number }
  | { readonly kind: "packed"; readonly layer: PackedLayer }
  | { readonly kind: "failed"; readonly error: PlainError }
);
