/**
 * Reading blobs, whole or by range, from whichever place gives the bytes first: a request that breaks off goes on
 * elsewhere or later, and one that is much slower than its like is asked again beside it.
 *
 * @module
 */
import { isCode, NydusError } from "../base/error.ts";
import type { RegistryClient } from "./client.ts";
import type { Endpoint } from "./endpoints.ts";
import { type BlobRead, Leg } from "./leg.ts";
import { pauseAfter } from "./retry.ts";

/** A body that failed after this much progress gets its attempts back. */
const PROGRESS = 2 ** 20;
/** Requests for the same bytes under way at once. */
const MOST_LEGS = 2;

/**
 * Exactly the bytes asked for; not verified. The first bytes are awaited, so that errors like not_found come from here
 * and not from the stream.
 */
export async function fetchBlob(client: RegistryClient, read: BlobRead): Promise<ReadableStream<Uint8Array>> {
  const reading = new Reading(client, read);
  let first = await reading.next();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const piece = first ?? (await reading.next());
        first = undefined;
        if (piece === undefined) controller.close();
        else controller.enqueue(piece);
      },
      cancel: () => reading.stop(),
    },
    { highWaterMark: 0 },
  );
}

/** What one request came to: a piece at its place, the end (undefined), or a failure. */
type Outcome =
  | { readonly runner: Runner; readonly at: number; readonly piece: Uint8Array | undefined }
  | { readonly runner: Runner; readonly error: unknown };

/** A request under way, and the outcome of its next step once that was asked for. */
interface Runner {
  readonly leg: Leg;
  outcome: Promise<Outcome> | undefined;
  /** performance.now() at its first bytes. */
  answeredAt: number | undefined;
  /** Bytes that were counted. */
  received: number;
}

class Reading {
  readonly #client: RegistryClient;
  readonly #read: BlobRead;
  readonly #action: string;
  /** Next byte of the blob to give. */
  #at: number;
  /** The first one gave the bytes so far; a second one may overtake it. */
  #runners: Runner[] = [];
  /** Milliseconds of waiting until the requests are slower than their like. */
  #patience = 0;
  /** How often in a row they were. */
  #late = 0;
  /** Milliseconds waited since the last progress. */
  #waited = 0;
  #failures = 0;
  #failedAt: number;
  /** Places that said no, and will again. */
  readonly #refused = new Set<Endpoint>();
  #refusals = 0;
  /** What the registry itself said, if it was no. */
  #refusal: unknown;

  constructor(client: RegistryClient, read: BlobRead) {
    this.#client = client;
    this.#read = read;
    this.#action = `read "${client.name}@${read.descriptor.digest}"`;
    this.#at = read.range.start;
    this.#failedAt = this.#at;
  }

  /** Undefined at the end of the range. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      try {
        if (this.#runners.length === 0) this.#start();
        const outcome = await this.#wait();
        if (outcome === "late") this.#hedge();
        else {
          const piece = await this.#accept(outcome);
          if (piece !== "again") return piece;
        }
      } catch (error) {
        await this.stop();
        throw error;
      }
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#runners.splice(0).map(({ leg }) => leg.stop()));
  }

  #start(): void {
    const { descriptor, partsOnly } = this.#read;
    const { endpoints } = this.#client;
    const endpoint = this.#places().find((place) => !this.#refused.has(place));
    if (endpoint === undefined)
      throw new NydusError("denied", `Cannot ${this.#action}: no configured host serves pulls`);
    if (partsOnly && !endpoints.givesRanges(endpoint, descriptor.digest)) throw this.#wholeOnly(endpoint);
    this.#client.budget.earn();
    this.#run(endpoint, false);
    this.#patience = endpoint.pace.patience;
    this.#late = 0;
  }

  #wholeOnly({ name }: Endpoint): NydusError {
    return new NydusError("unsupported", `Cannot ${this.#action} in parts: ${name} sends the whole blob`);
  }

  #places(): readonly Endpoint[] {
    return this.#client.endpoints.order("pull", this.#read.descriptor.digest);
  }

  #run(endpoint: Endpoint, apart: boolean): void {
    const leg = new Leg(endpoint, this.#read, this.#at, this.#action, apart);
    this.#runners.push({ leg, outcome: undefined, answeredAt: undefined, received: 0 });
  }

  /** The first outcome, or "late". @throws unavailable when nothing came for as long as is allowed */
  async #wait(): Promise<Outcome | "late"> {
    const { limit } = this.#client.retry;
    const late = Promise.withResolvers<"late">();
    const started = performance.now();
    // What has arrived meanwhile comes first: a busy process is not a slow source.
    const timer = setTimeout(
      () => setImmediate(() => late.resolve("late")),
      Math.max(0, Math.min(this.#patience, limit - this.#waited)),
    );
    try {
      return await Promise.race([...this.#runners.map((runner) => this.#step(runner)), late.promise]);
    } finally {
      clearTimeout(timer);
      const waited = performance.now() - started;
      this.#patience -= waited;
      this.#waited += waited;
    }
  }

  #step(runner: Runner): Promise<Outcome> {
    const { leg } = runner;
    const { at } = leg;
    runner.outcome ??= leg.next().then(
      (piece) => {
        if (runner.answeredAt === undefined && leg.received > 0) this.#answered(runner);
        return { runner, at, piece };
      },
      (error: unknown) => ({ runner, error }),
    );
    return runner.outcome;
  }

  #answered(runner: Runner): void {
    const { endpoint, asked } = runner.leg;
    runner.answeredAt = performance.now();
    endpoint.pace.answered(runner.answeredAt - asked);
    this.#client.endpoints.served(endpoint);
  }

  /** Asks beside what is under way; the older of two requests makes room for the new one. */
  #hedge(): void {
    const { retry, budget, endpoints } = this.#client;
    const [main] = this.#runners;
    if (this.#waited >= retry.limit)
      throw new NydusError(
        "unavailable",
        `Cannot ${this.#action}: nothing came from ${main?.leg.endpoint.name} for ${retry.limit / 1000} s; --read-timeout changes how long that may be`,
        { outOfTime: true },
      );
    const usual = main?.leg.endpoint.pace.patience ?? 0;
    this.#patience = usual * 2 ** this.#late;
    if (!budget.spend()) return;
    this.#late++;
    if (this.#runners.length === MOST_LEGS) this.#runners.shift()?.leg.stop().catch(ignore);
    if (main !== undefined) endpoints.failed(main.leg.endpoint, "was much slower than usual");
    const places = this.#places().filter((place) => !this.#refused.has(place));
    const busy = new Set(this.#runners.map(({ leg }) => leg.endpoint));
    const endpoint = places.find((place) => !busy.has(place)) ?? places[0];
    if (endpoint !== undefined) this.#run(endpoint, true);
  }

  async #accept(outcome: Outcome): Promise<Uint8Array | undefined | "again"> {
    const { runner } = outcome;
    if ("error" in outcome) return this.#lose(runner, outcome.error);
    runner.outcome = undefined;
    const { at, piece } = outcome;
    if (piece === undefined) return this.#end(runner);
    this.#arrived(runner);
    const end = at + piece.byteLength;
    if (end > this.#at) await this.#follow(runner);
    else if (runner !== this.#runners[0] && piece.byteLength > 0) await this.#drop(runner);
    if (end <= this.#at) return "again";
    this.#read.from?.(runner.leg.endpoint.name);
    const fresh = piece.subarray(this.#at - at);
    this.#at = end;
    return fresh;
  }

  /** Bytes buy patience, also those that are skipped. */
  #arrived(runner: Runner): void {
    const { received, endpoint } = runner.leg;
    const { pace } = endpoint;
    this.#patience = Math.min(pace.patience, this.#patience + pace.allowance(received - runner.received));
    runner.received = received;
    this.#waited = 0;
  }

  /** This one is ahead: the others are not needed, except one that is to overtake it. */
  async #follow(runner: Runner): Promise<void> {
    if (runner === this.#runners[0]) return;
    const others = this.#runners.filter((other) => other !== runner);
    this.#runners = [runner];
    this.#late = 0;
    await Promise.all(others.map(({ leg }) => leg.stop()));
  }

  async #drop(runner: Runner): Promise<void> {
    this.#runners = this.#runners.filter((other) => other !== runner);
    await runner.leg.stop();
  }

  async #end(runner: Runner): Promise<undefined> {
    const { leg, answeredAt } = runner;
    if (answeredAt !== undefined) leg.endpoint.pace.moved(leg.received, performance.now() - answeredAt);
    await this.stop();
  }

  /** @throws the error when it makes no sense to go on */
  async #lose(runner: Runner, error: unknown): Promise<undefined | "again"> {
    await this.#drop(runner);
    const { range, signal } = this.#read;
    if (signal?.aborted === true) throw error;
    // Everything wanted is here; how the connection ends is of no interest.
    if (this.#at >= range.end) {
      await this.stop();
      return undefined;
    }
    const { endpoint } = runner.leg;
    if (isCode(error, "unavailable"))
      this.#client.endpoints.failed(endpoint, error.message, error.retryAfter);
    else this.#note(endpoint, error);
    if (this.#runners.length === 0) await this.#beforeRetry(endpoint, error);
    return "again";
  }

  /** What a place that answered, but not with the bytes, need not be asked again. */
  #note(endpoint: Endpoint, error: unknown): void {
    const { endpoints, retry } = this.#client;
    if (isCode(error, "unsupported")) endpoints.ignoresRanges(endpoint, this.#read.descriptor.digest);
    const isUpstream = endpoint === endpoints.all.at(-1);
    const isFinal = !isCode(error, "denied") || !isUpstream || ++this.#refusals >= retry.refusals;
    if (isFinal) this.#refused.add(endpoint);
    if (isFinal && isUpstream) this.#refusal = error;
  }

  async #beforeRetry(failed: Endpoint, error: unknown): Promise<void> {
    const { retry, endpoints } = this.#client;
    const best = this.#places().find((place) => !this.#refused.has(place));
    if (best === undefined) throw error;
    if (this.#at - this.#failedAt >= PROGRESS) this.#failures = 0;
    this.#failedAt = this.#at;
    this.#failures++;
    if (this.#failures >= retry.attempts * endpoints.all.length || this.#waited >= retry.limit) throw error;
    if (best !== failed && best.isUp && !endpoints.isResting(best)) return;
    // The registry itself said no: places that cannot be reached now will hardly say better.
    if (this.#refusal !== undefined) throw this.#refusal;
    const started = performance.now();
    await pauseAfter(retry, error, this.#failures, this.#read.signal);
    this.#waited += performance.now() - started;
  }
}

function ignore(): void {}
