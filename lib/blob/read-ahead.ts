/**
 * How far to read ahead of what somebody waits for. A request costs a round trip and its bytes; asking for as many bytes
 * more as come in the time of a round trip at most doubles what it takes, and often saves the next one. Both are
 * measured as they go: on a slow line far less is worth it than beside a registry.
 *
 * @module
 */

/**
 * Stored bytes, until enough was measured. Replayed reads of a Python start (flask, numpy): 512 KiB are 69 requests and 28 MB,
 * 768 KiB 57 and 32 MB, 1 MiB 53 and 38 MB, 2 MiB 44 and 44 MB.
 */
const FIRST_GUESS = 768 << 10;
const LEAST = 128 << 10;
const MOST = 2 << 20;
/** Round trips that the bytes read ahead may last. */
const ROUND_TRIPS = 1;
/** Bodies shorter than this say nothing about the rate. */
const LEAST_BODY = 64 << 10;
const ENOUGH_SAMPLES = 3;
const OWN_WEIGHT = 0.3;

/** What requests to one source cost, as the one who reads its answers sees it. */
export class SourceCost {
  #answers = 0;
  #bodies = 0;
  /** Milliseconds to the first byte. */
  #latency = 0;
  /** Milliseconds a byte: what decoding and storing take is part of it. */
  #perByte = 0;

  answered(ms: number): void {
    this.#latency = this.#answers++ === 0 ? ms : mixed(this.#latency, ms);
  }

  moved(bytes: number, ms: number): void {
    if (bytes < LEAST_BODY) return;
    const perByte = ms / bytes;
    this.#perByte = this.#bodies++ === 0 ? perByte : mixed(this.#perByte, perByte);
  }

  /** Stored bytes worth asking for behind the last one that is needed. */
  get ahead(): number {
    if (this.#answers < ENOUGH_SAMPLES || this.#bodies < ENOUGH_SAMPLES) return FIRST_GUESS;
    const worth = (ROUND_TRIPS * this.#latency) / Math.max(this.#perByte, Number.EPSILON);
    return Math.min(MOST, Math.max(LEAST, Math.round(worth)));
  }
}

function mixed(old: number, fresh: number): number {
  return old * (1 - OWN_WEIGHT) + fresh * OWN_WEIGHT;
}

/** Streams of one blob that are followed at once; the oldest is forgotten first. */
const MAX_STREAMS = 16;
/** A stream that goes on gets twice as much ahead each time, up to so many times the usual. */
const MAX_FACTOR = 8;

/** Sees sequential readers coming: a miss right behind what an earlier one brought is the same reader going on. */
export class Streams {
  /** By the chunk that would come next: how far ahead the last request of the stream reached. */
  readonly #factors = new Map<number, number>();

  /** How many times the usual to read ahead for a reader who needs this chunk now. */
  factor(chunk: number): number {
    const last = this.#factors.get(chunk);
    this.#factors.delete(chunk);
    return last === undefined ? 1 : Math.min(MAX_FACTOR, last * 2);
  }

  /** What was asked for ends before this chunk. */
  reached(next: number, factor: number): void {
    this.#factors.set(next, factor);
    const [oldest] = this.#factors.keys();
    if (this.#factors.size > MAX_STREAMS && oldest !== undefined) this.#factors.delete(oldest);
  }
}
