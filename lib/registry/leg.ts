/**
 * One request for a range of a blob to one place, and its answer as pieces that know where they lie. A range that the
 * place ignored is cut out of the whole blob.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import type { ByteRange } from "../content/content.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { Endpoint } from "./endpoints.ts";
import { type HttpResponse, READ } from "./http.ts";
import { statusError } from "./status.ts";

export interface BlobRead {
  readonly descriptor: Descriptor;
  /** Whole = 0 to the descriptor's size, which is asked for without a Range header. */
  readonly range: ByteRange;
  readonly whole: boolean;
  /** Rather fail with `unsupported` than read a whole blob for a part of it. */
  readonly partsOnly: boolean;
  readonly from?: (place: string) => void;
  readonly signal?: AbortSignal;
}

/** How long the end of a body may take after its last byte (milliseconds): mostly it comes with it. */
const END_GRACE = 100;

export class Leg {
  readonly endpoint: Endpoint;
  /** Milliseconds: performance.now(). */
  readonly asked = performance.now();
  /** Bytes that arrived, wanted or not. */
  received = 0;
  readonly #read: BlobRead;
  readonly #action: string;
  readonly #apart: boolean;
  readonly #controller = new AbortController();
  readonly #onAbort: () => void;
  /** Next byte of the blob to give. */
  #at: number;
  /** Next byte of the blob that the body gives: behind `#at` when the place ignored the range. */
  #bodyAt = 0;
  #response: HttpResponse | undefined;
  #body: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #stopped = false;

  /** @param at first byte to give, inside the read's range @param apart beside another leg that hangs */
  constructor(endpoint: Endpoint, read: BlobRead, at: number, action: string, apart: boolean) {
    this.endpoint = endpoint;
    this.#read = read;
    this.#at = at;
    this.#action = action;
    this.#apart = apart;
    this.#onAbort = () => this.#controller.abort(read.signal?.reason);
    read.signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Where the next piece lies. */
  get at(): number {
    return this.#at;
  }

  /** Sends the request and checks the answer's head. */
  async open(): Promise<void> {
    const { descriptor, range, whole, signal } = this.#read;
    signal?.throwIfAborted();
    const ranged = !(whole && this.#at === 0);
    const response = await this.endpoint.send({
      method: "GET",
      url: this.endpoint.url(`blobs/${descriptor.digest}`),
      action: this.#action,
      access: READ,
      apart: this.#apart,
      ...(ranged ? { headers: { range: `bytes=${this.#at}-${range.end - 1}` } } : {}),
      signal: this.#controller.signal,
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
    if (this.#stopped) await this.#drop();
  }

  /**
   * The next piece; it lies at what `at` was before. Undefined at the end of the range; empty where bytes arrived that
   * lie before it.
   */
  async next(): Promise<Uint8Array | undefined> {
    if (this.#body === undefined) await this.open();
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
    return this.#cut(result.value);
  }

  #cut(bytes: Uint8Array): Uint8Array {
    const { range, whole } = this.#read;
    const start = Math.min(bytes.byteLength, Math.max(0, this.#at - this.#bodyAt));
    this.received += bytes.byteLength;
    this.#bodyAt += bytes.byteLength;
    // A whole body that is too long goes on as it is: verification says what is wrong with it.
    const end = whole ? bytes.byteLength : bytes.byteLength - Math.max(0, this.#bodyAt - range.end);
    const piece = bytes.subarray(start, Math.max(start, end));
    this.#at += piece.byteLength;
    return piece;
  }

  /** Gives up whatever is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#read.signal?.removeEventListener("abort", this.#onAbort);
    if (this.#response === undefined) this.#controller.abort(new Error("no longer wanted"));
    await this.#drop();
  }

  async #drop(): Promise<void> {
    const response = this.#response;
    this.#response = undefined;
    await response?.discard();
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
    const { descriptor, range, partsOnly } = this.#read;
    const length = Number(response.headers.get("content-length") ?? Number.NaN);
    if (length < range.end) throw this.#tooShort(length);
    const isPart = ranged && (range.start > 0 || range.end < descriptor.size);
    if (isPart && partsOnly)
      throw new NydusError(
        "unsupported",
        `Cannot ${this.#action} in parts: ${this.endpoint.name} sends the whole blob`,
      );
    this.#bodyAt = 0;
  }

  #tooShort(size: number): NydusError {
    const { start, end } = this.#read.range;
    return corrupt(
      `Cannot ${this.#action}: the blob has ${size} bytes, and bytes ${start} to ${end} are needed`,
    );
  }

  async #finish(): Promise<void> {
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(late.resolve, END_GRACE);
    try {
      if (this.#bodyAt === this.#read.range.end) {
        const rest = await Promise.race([this.#body?.read(), late.promise]);
        if (rest?.done === true) this.#response = undefined;
      }
      await this.stop();
    } finally {
      clearTimeout(timer);
    }
  }
}
