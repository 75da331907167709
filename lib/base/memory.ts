/** Memory that does not wait for the collector. @module */

/**
 * Gives back the memory of an array that has its own, at once: a thread that makes megabytes a millisecond has used a
 * hundred of them before they are collected. Nobody may look at the array any more.
 */
export function release({ buffer, byteLength }: Uint8Array): void {
  // Small ones may be parts of a pool.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
