/**
 * Decodes a gzip file once, as a stream, and learns on the way where it can be entered: checkpoints, and how much of
 * the file each stretch of output takes.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import { GZIP_TRAILER, gzipHeaderSize } from "../base/gzip.ts";
import { Inflater, MAX_MATCH, WINDOW_SIZE } from "../base/inflate.ts";
import { type Checkpoint, CheckpointRecorder } from "./checkpoints.ts";

/** Bytes of one piece of output. */
const PIECE = 512 * 1024;
/** Every so many decoded bytes it is noted how far the input is. */
const SAMPLE = 4096;
/** No writer makes a header this long. */
const MAX_HEADER = 2 ** 20;

export class IndexedGunzip {
  readonly #what: string;
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #inflater: Inflater;
  readonly #recorder: CheckpointRecorder;
  /** Bytes read and not consumed; those before `#rest[0]` are `#inBase`. */
  #rest: Uint8Array = new Uint8Array(0);
  #inBase = 0;
  #ended = false;
  #previousByte = 0;
  /** Decoded bytes before index 0 of the inflater's buffer. */
  #outBase = 0;
  #pieceStart = 0;
  /** Input consumed when sample i's output was there. */
  readonly #samples: number[] = [];
  #memberStart = 0;
  #crc = 0;

  /** @param what the file is called in messages */
  constructor(source: AsyncIterable<Uint8Array>, what: string) {
    this.#what = what;
    this.#pieces = source[Symbol.asyncIterator]();
    this.#inflater = new Inflater(new Uint8Array(PIECE + MAX_MATCH), 0, SAMPLE);
    this.#recorder = new CheckpointRecorder(this.#inflater);
  }

  /** In order; complete when `pieces` has ended. */
  get checkpoints(): readonly Checkpoint[] {
    return this.#recorder.checkpoints;
  }

  /** Decoded bytes so far. */
  get outOffset(): number {
    return this.#outBase + this.#inflater.outPosition;
  }

  /** How many bytes of the file are needed, at most, for the first `outOffset` decoded ones. */
  inputFor(outOffset: number): number {
    return this.#samples[Math.ceil(outOffset / SAMPLE) - 1] ?? (outOffset <= 0 ? 0 : this.#inBase);
  }

  /** How many bytes of the file are done, at least, when `outOffset` bytes are decoded. */
  inputBefore(outOffset: number): number {
    return this.#samples[Math.floor(outOffset / SAMPLE) - 1] ?? 0;
  }

  /** The decoded bytes, each piece in memory that is not used again. @throws corrupt; NydusErrors of the source */
  async *pieces(): AsyncGenerator<Uint8Array> {
    try {
      do yield* this.#member();
      while (await this.#another());
      if (this.#pieceStart < this.#inflater.outPosition) yield this.#flush();
      this.#sample();
    } catch (error) {
      if (!(error instanceof NydusError) || error.code !== "corrupt") throw error;
      throw corrupt(`Cannot decompress ${this.#what}: ${error.message.replace(/^Cannot inflate: /, "")}`);
    } finally {
      await this.#pieces.return?.();
    }
  }

  async *#member(): AsyncGenerator<Uint8Array> {
    await this.#header();
    const inflater = this.#inflater;
    this.#memberStart = this.outOffset;
    this.#crc = 0;
    inflater.restart();
    inflater.feed(this.#rest, this.#ended);
    for (;;) {
      const step = inflater.step();
      if (step === "block") {
        const at = this.#inBase + inflater.inPosition;
        this.#recorder.visit(at, this.outOffset, this.#rest[inflater.inPosition - 1] ?? this.#previousByte);
      } else if (step === "output") {
        this.#sample();
        if (inflater.outPosition >= PIECE - SAMPLE) yield this.#flush();
        inflater.stop = (this.#samples.length + 1) * SAMPLE - this.#outBase;
      } else if (step === "input") {
        this.#consume(inflater.inPosition);
        await this.#more();
        inflater.feed(this.#rest, this.#ended);
      } else break;
    }
    this.#consume(inflater.inPosition);
    this.#recorder.close();
    await this.#trailer();
  }

  /** Notes the input for each sample that the output has passed. */
  #sample(): void {
    this.#recorder.settle(this.outOffset);
    const consumed = this.#inBase + this.#inflater.inPosition;
    while ((this.#samples.length + 1) * SAMPLE <= this.outOffset) this.#samples.push(consumed);
  }

  /** Hands out what was decoded since, and goes on in new memory behind a copy of the last 32 KiB. */
  #flush(): Uint8Array {
    const inflater = this.#inflater;
    const { out, outPosition } = inflater;
    const piece = out.subarray(this.#pieceStart, outPosition);
    const kept = Math.min(outPosition, WINDOW_SIZE);
    const shift = outPosition - kept;
    const next = new Uint8Array(PIECE + MAX_MATCH);
    next.set(out.subarray(shift, outPosition));
    inflater.out = next;
    inflater.outPosition = kept;
    inflater.outStart = Math.max(0, inflater.outStart - shift);
    inflater.markBelow = Math.max(0, inflater.markBelow - shift);
    this.#crc = Bun.hash.crc32(
      piece.subarray(Math.max(0, this.#memberStart - this.#outBase - this.#pieceStart)),
      this.#crc,
    );
    this.#outBase += shift;
    this.#pieceStart = kept;
    return piece;
  }

  #consume(count: number): void {
    if (count > 0) this.#previousByte = this.#rest[count - 1] ?? 0;
    this.#rest = this.#rest.subarray(count);
    this.#inBase += count;
  }

  async #more(): Promise<void> {
    const { done, value } = await this.#pieces.next();
    if (done) this.#ended = true;
    else this.#rest = this.#rest.byteLength === 0 ? value : Buffer.concat([this.#rest, value]);
  }

  async #need(count: number): Promise<void> {
    while (this.#rest.byteLength < count) {
      if (this.#ended) throw corrupt("Cannot inflate: unexpected end of file");
      await this.#more();
    }
  }

  async #header(): Promise<void> {
    for (let size = gzipHeaderSize(this.#rest); ; size = gzipHeaderSize(this.#rest)) {
      if (size !== undefined) return this.#consume(size);
      if (this.#rest.byteLength > MAX_HEADER) throw corrupt("Cannot inflate: a gzip header does not end");
      await this.#need(this.#rest.byteLength + 1);
    }
  }

  async #trailer(): Promise<void> {
    await this.#need(GZIP_TRAILER);
    const view = new DataView(this.#rest.buffer, this.#rest.byteOffset, GZIP_TRAILER);
    const { out, outPosition } = this.#inflater;
    const start = Math.max(this.#pieceStart, this.#memberStart - this.#outBase);
    const crc = Bun.hash.crc32(out.subarray(start, outPosition), this.#crc);
    if (view.getUint32(0, true) !== crc) throw corrupt("Cannot inflate: incorrect data check");
    if (view.getUint32(4, true) !== (this.outOffset - this.#memberStart) % 2 ** 32)
      throw corrupt("Cannot inflate: incorrect length check");
    this.#consume(GZIP_TRAILER);
  }

  /** Whether another member follows. Zeros behind the last one are padding, as gzip(1) has it. */
  async #another(): Promise<boolean> {
    for (;;) {
      while (this.#rest.byteLength === 0 && !this.#ended) await this.#more();
      if (this.#rest.byteLength === 0) return false;
      const at = this.#rest.findIndex((byte) => byte !== 0);
      if (at === 0) return true;
      this.#consume(at < 0 ? this.#rest.byteLength : at);
      if (at > 0) throw corrupt("Cannot inflate: there is something behind the last gzip member");
    }
  }
}
