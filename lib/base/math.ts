/** Small integer arithmetic on offsets and sizes (safe integers, not 32-bit). @module */

export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

export function alignDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}
