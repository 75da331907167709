/**
 * Reading blobs: whole or by range, going on where a body broke off, and coping with registries that ignore Range.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import type { ByteRange } from "../content/content.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { RegistryClient } from "./client.ts";
import { type HttpResponse, READ } from "./http.ts";
import { pauseAfter, retrying } from "./retry.ts";
import { statusError } from "./status.ts";

export interface BlobRead {
  readonly descriptor: Descriptor;
  /** Whole = 0 to the descriptor's size, which is asked for without a Range header. */
  readonly range: ByteRange;
  readonly whole: boolean;
  readonly signal?: AbortSignal;
}

/** A body that failed after this much progress gets its attempts back. */
const PROGRESS = 2 ** 20;
/** How long the end of a body may take after its last byte (milliseconds): mostly it comes with it. */
const END_GRACE = 100;

/**
 * Exactly the bytes asked for; not verified. The first answer is awaited, so that errors like not_found come from here
 * and not from the stream.
 */
export async function fetchBlob(client: RegistryClient, read: BlobRead): Promise<ReadableStream<Uint8Array>> {
  const reading = new Reading(client, read);
  await reading.open();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const piece = await reading.next();
        if (piece === undefined) controller.close();
        else controller.enqueue(piece);
      },
      cancel: () => reading.stop(),
    },
    { highWaterMark: 0 },
  );
}

class Reading {
  readonly #client: RegistryClient;
  readonly #read: BlobRead;
  readonly #action: string;
  /** Next byte of the blob to give. */
  #at: number;
  /** Next byte of the blob that the body gives: behind `#at` when the registry ignored Range. */
  #bodyAt = 0;
  #response: HttpResponse | undefined;
  #body: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #failures = 0;
  #failedAt: number;

  constructor(client: RegistryClient, read: BlobRead) {
    this.#client = client;
    this.#read = read;
    this.#action = `read "${client.name}@${read.descriptor.digest}"`;
    this.#at = read.range.start;
    this.#failedAt = this.#at;
  }

  async open(): Promise<void> {
    const { retry } = this.#client;
    await retrying(retry, this.#read.signal, () => this.#ask());
  }

  /** Undefined at the end of the range. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      try {
        if (this.#body === undefined) await this.#ask();
        const piece = await this.#step();
        if (piece !== "again") return piece;
      } catch (error) {
        await this.stop();
        // Everything wanted is here; how the connection ends is of no interest.
        if (this.#at >= this.#read.range.end) return undefined;
        await this.#beforeRetry(error);
      }
    }
  }

  async stop(): Promise<void> {
    const response = this.#response;
    this.#response = undefined;
    this.#body = undefined;
    await response?.discard();
  }

  async #ask(): Promise<void> {
    const { descriptor, range, whole, signal } = this.#read;
    const ranged = !(whole && this.#at === 0);
    const response = await this.#client.send({
      method: "GET",
      url: this.#client.url(`blobs/${descriptor.digest}`),
      action: this.#action,
      access: READ,
      ...(ranged ? { headers: { range: `bytes=${this.#at}-${range.end - 1}` } } : {}),
      ...(signal === undefined ? {} : { signal }),
    });
    try {
      if (response.status === 206 && ranged) this.#checkPartial(response);
      else if (response.status === 200) this.#checkFull(response, ranged);
      else throw await this.#statusError(response);
    } catch (error) {
      await response.discard();
      throw error;
    }
    this.#response = response;
    this.#body = response.body.getReader();
  }

  async #statusError(response: HttpResponse): Promise<NydusError> {
    const { start, end } = this.#read.range;
    if (response.status === 416)
      return corrupt(`Cannot ${this.#action}: the blob ends before bytes ${start} to ${end}`);
    return statusError(response, this.#action);
  }

  #checkPartial(response: HttpResponse): void {
    const { range } = this.#read;
    const header = response.headers.get("content-range") ?? "";
    const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header.trim());
    const [first, last] = [Number(match?.[1]), Number(match?.[2])];
    if (match === null || first !== this.#at || last >= range.end)
      throw new NydusError(
        "unavailable",
        `Cannot ${this.#action}: asked for bytes ${this.#at} to ${range.end}, the registry answered "${header.slice(0, 80)}"`,
      );
    if (last < range.end - 1) {
      if (Number(match[3]) === last + 1) throw this.#tooShort(last + 1);
      throw new NydusError(
        "unavailable",
        `Cannot ${this.#action}: the registry answers only part of a range`,
      );
    }
    this.#bodyAt = this.#at;
  }

  #checkFull(response: HttpResponse, ranged: boolean): void {
    const { descriptor, range } = this.#read;
    const length = Number(response.headers.get("content-length") ?? Number.NaN);
    if (length < range.end) throw this.#tooShort(length);
    if (ranged) this.#client.observer.fullBody?.(descriptor.digest);
    this.#bodyAt = 0;
  }

  #tooShort(size: number): NydusError {
    const { start, end } = this.#read.range;
    return corrupt(
      `Cannot ${this.#action}: the blob has ${size} bytes, and bytes ${start} to ${end} are needed`,
    );
  }

  /** One piece of the body, cut to what is wanted; "again" when all of it was before that. */
  async #step(): Promise<Uint8Array | undefined | "again"> {
    const { range, whole } = this.#read;
    if (this.#at >= range.end && !whole) {
      // The answer's last bytes have arrived: reading on to its end keeps the connection usable.
      await this.#finish();
      return undefined;
    }
    const result = await this.#body?.read();
    if (result === undefined || result.done) {
      if (this.#at >= range.end) return undefined;
      throw new NydusError(
        "unavailable",
        `Cannot ${this.#action}: the body ended at byte ${this.#bodyAt}, before ${range.end}`,
      );
    }
    const start = Math.max(0, this.#at - this.#bodyAt);
    this.#bodyAt += result.value.byteLength;
    // A whole body that is too long goes on as it is: verification says what is wrong with it.
    const end = whole
      ? result.value.byteLength
      : result.value.byteLength - Math.max(0, this.#bodyAt - range.end);
    if (start >= end) return "again";
    this.#at += end - start;
    return result.value.subarray(start, end);
  }

  async #finish(): Promise<void> {
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(late.resolve, END_GRACE);
    try {
      if (this.#bodyAt === this.#read.range.end) {
        const rest = await Promise.race([this.#body?.read(), late.promise]);
        if (rest?.done === true) return;
      }
      await this.stop();
    } finally {
      clearTimeout(timer);
    }
  }

  /** @throws the error when it makes no sense to go on */
  async #beforeRetry(error: unknown): Promise<void> {
    const { retry } = this.#client;
    if (this.#at - this.#failedAt >= PROGRESS) this.#failures = 0;
    this.#failedAt = this.#at;
    this.#failures++;
    if (this.#failures >= retry.attempts) throw error;
    await pauseAfter(retry, error, this.#failures, this.#read.signal);
  }
}
