/**
 * What a packing thread and its owner tell each other. The owner sends pieces of the compressed layer and waits for
 * room; the thread says how much it has taken in.
 *
 * @module
 */
import type { ErrorCode } from "../base/error.ts";
import type { PackedLayer, PackOptions } from "./pack-layer.ts";

/** Bytes that may be on their way to a thread. */
export const MAX_IN_FLIGHT = 4 * 2 ** 20;

export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
}

export type ToPacker =
  | { readonly kind: "start"; readonly options: Omit<PackOptions, "signal"> }
  | { readonly kind: "piece"; readonly bytes: Uint8Array }
  | { readonly kind: "end" }
  /** The source failed: nothing more comes. */
  | { readonly kind: "broken"; readonly error: PlainError };

export type FromPacker =
  | { readonly kind: "taken"; readonly bytes: number }
  | { readonly kind: "packed"; readonly layer: PackedLayer }
  | { readonly kind: "failed"; readonly error: PlainError };
