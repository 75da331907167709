/**
 * How fast a source usually is, measured as it goes, and from that when a request is out of the ordinary. Such a request
 * is asked again beside the first one (hedged); how often is bounded, so that a source in trouble is not flooded.
 *
 * @module
 */

export interface PatienceLimits {
  /** Milliseconds of silence that never count as unusual. */
  readonly least: number;
  /** Milliseconds of silence that always do. */
  readonly most: number;
}

const DEFAULT_LIMITS: PatienceLimits = { least: 1000, most: 8000 };
/** Answers that are remembered, and how many make a judgement. */
const SAMPLES = 32;
const ENOUGH_SAMPLES = 4;
/** So many times the slowest usual answer is unusual. */
const FACTOR = 4;
/** Bodies shorter than this say nothing about the rate. */
const LEAST_BODY = 64 * 1024;
/** A body at this part of the usual rate is as good as silent. */
const SLOW_PART = 1 / 8;
/** Bounds of what counts as slow (bytes a second): a shared slow line is no fault, and a fast one may have a bad day. */
const SLOW_RATE: { readonly least: number; readonly most: number } = { least: 4 * 1024, most: 256 * 1024 };
const OWN_WEIGHT = 0.2;

export class Pace {
  readonly #limits: PatienceLimits;
  /** Milliseconds from asking to the first byte, the newest last. */
  readonly #answers: number[] = [];
  /** Bytes a second. */
  #rate: number | undefined;

  constructor(limits: Partial<PatienceLimits> = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
  }

  /** An answer began so many milliseconds after it was asked for. */
  answered(ms: number): void {
    this.#answers.push(ms);
    if (this.#answers.length > SAMPLES) this.#answers.shift();
  }

  /** So many bytes came in so many milliseconds. */
  moved(bytes: number, ms: number): void {
    if (bytes < LEAST_BODY || ms <= 0) return;
    const rate = (bytes * 1000) / ms;
    this.#rate = this.#rate === undefined ? rate : this.#rate * (1 - OWN_WEIGHT) + rate * OWN_WEIGHT;
  }

  /** Milliseconds of silence after which a request is slower than its like. */
  get patience(): number {
    const { least, most } = this.#limits;
    if (this.#answers.length < ENOUGH_SAMPLES) return Math.min(most, 2 * least);
    const sorted = [...this.#answers].sort((a, b) => a - b);
    const slow = sorted[Math.floor(sorted.length * 0.9)] ?? 0;
    return Math.min(most, Math.max(least, FACTOR * slow));
  }

  /** Milliseconds that so many bytes may take. */
  allowance(bytes: number): number {
    const slow = (this.#rate ?? 0) * SLOW_PART;
    return (bytes * 1000) / Math.min(SLOW_RATE.most, Math.max(SLOW_RATE.least, slow));
  }
}

/** Extra requests that may be sent at once. */
const BURST = 8;
/** What each ordinary request, and each second, gives back of that. */
const PER_REQUEST = 0.1;
const PER_SECOND = 1;

/** Bounds the extra load: a tenth of the requests, and at least one a second. */
export class HedgeBudget {
  readonly #now: () => number;
  #left = BURST;
  #at: number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#at = now();
  }

  /** An ordinary request was sent. */
  earn(): void {
    this.#left = Math.min(BURST, this.#left + PER_REQUEST);
  }

  /** @returns whether an extra request may be sent */
  spend(): boolean {
    const now = this.#now();
    this.#left = Math.min(BURST, this.#left + ((now - this.#at) / 1000) * PER_SECOND);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
