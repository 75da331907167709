/**
 * One HTTP/2 stream: headers, a body each way, trailers. What flow control needs of the connection comes through
 * `StreamHost`.
 *
 * @module
 */
import { DEFAULT_WINDOW, ERROR, FLAG, Http2Error, MAX_FRAME_SIZE, MAX_WINDOW, TYPE, u32 } from "./frames.ts";
import { encodeHeaders, type HeaderField } from "./hpack.ts";

/** Bytes that the peer may send on a stream before we have read them. */
export const STREAM_WINDOW: number = 2 ** 20;

export interface StreamHost {
  send(type: number, flags: number, stream: number, payload: Uint8Array): void;
  /** Resolves when the socket takes more. */
  writable(): Promise<void>;
  /** Take from the connection's send window, at most so much. */
  takeWindow(most: number): number;
  /** Resolves when some send window may have grown. */
  windowChange(): Promise<void>;
  /** The reader has taken bytes off the connection's receive window. */
  consumed(bytes: number): void;
  /** Both directions are over. */
  finished(stream: Http2Stream): void;
}

export class Http2Stream {
  readonly id: number;
  readonly #host: StreamHost;
  readonly #head = Promise.withResolvers<readonly HeaderField[]>();
  readonly #aborted = new AbortController();
  readonly #received: Uint8Array[] = [];
  #trailers: readonly HeaderField[] = [];
  #gotHead = false;
  #remoteEnded = false;
  #localEnded = false;
  #failure: Error | undefined;
  #wake: () => void = () => {};
  #sendWindow: number;
  #receiveWindow = STREAM_WINDOW;
  #unacknowledged = 0;

  constructor(id: number, host: StreamHost, sendWindow = DEFAULT_WINDOW) {
    this.id = id;
    this.#host = host;
    this.#sendWindow = sendWindow;
    this.#head.promise.catch(() => {}); // whoever waits for it is told
  }

  /** The peer's headers: a request's, or a final response's. */
  get head(): Promise<readonly HeaderField[]> {
    return this.#head.promise;
  }

  /** What came after the body; complete once the body has ended. */
  get trailers(): readonly HeaderField[] {
    return this.#trailers;
  }

  /** Fires when the stream is given up by the peer, by us, or with the connection. */
  get signal(): AbortSignal {
    return this.#aborted.signal;
  }

  sendHeaders(fields: readonly HeaderField[], end = false): void {
    if (this.#failure !== undefined || this.#localEnded) return;
    const block = encodeHeaders(fields);
    for (let at = 0; at === 0 || at < block.byteLength; at += MAX_FRAME_SIZE) {
      const last = at + MAX_FRAME_SIZE >= block.byteLength;
      const flags = (last ? FLAG.endHeaders : 0) | (end && at === 0 ? FLAG.endStream : 0);
      const type = at === 0 ? TYPE.headers : TYPE.continuation;
      this.#host.send(type, flags, this.id, block.subarray(at, at + MAX_FRAME_SIZE));
    }
    if (end) this.#endLocal();
  }

  /** Resolves when the bytes are on their way: flow control and the socket decide when. @throws when the stream failed */
  async write(bytes: Uint8Array): Promise<void> {
    let at = 0;
    while (at < bytes.byteLength) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#localEnded)
        throw new Http2Error(ERROR.cancel, "the peer has answered and reads no more", "cancelled");
      const own = Math.min(bytes.byteLength - at, MAX_FRAME_SIZE, this.#sendWindow);
      const size = own <= 0 ? 0 : this.#host.takeWindow(own);
      if (size <= 0) {
        await this.#host.windowChange();
        continue;
      }
      this.#sendWindow -= size;
      this.#host.send(TYPE.data, 0, this.id, bytes.subarray(at, at + size));
      at += size;
      await this.#host.writable();
    }
  }

  end(): void {
    if (this.#failure !== undefined || this.#localEnded) return;
    this.#host.send(TYPE.data, FLAG.endStream, this.id, new Uint8Array());
    this.#endLocal();
  }

  /** Give the stream up. */
  reset(code: number, reason: Error): void {
    if (this.#failure !== undefined) return;
    if (this.#localEnded && this.#remoteEnded) return this.#drop(reason);
    this.#host.send(TYPE.reset, 0, this.id, u32(code));
    this.fail(reason);
  }

  /** The peer's body, piece by piece; reading is what makes room for more. */
  async *body(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const piece = this.#received.shift();
      if (piece !== undefined) {
        this.#acknowledge(piece.byteLength);
        yield piece;
      } else if (this.#failure !== undefined) throw this.#failure;
      else if (this.#remoteEnded) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  #acknowledge(bytes: number): void {
    this.#host.consumed(bytes);
    this.#unacknowledged += bytes;
    if (this.#unacknowledged < STREAM_WINDOW / 2 || this.#remoteEnded) return;
    this.#receiveWindow += this.#unacknowledged;
    this.#host.send(TYPE.windowUpdate, 0, this.id, u32(this.#unacknowledged));
    this.#unacknowledged = 0;
  }

  // What follows is for the connection, which hands over what came.

  receiveHeaders(fields: readonly HeaderField[], end: boolean): void {
    const informational = fields.some(([name, value]) => name === ":status" && value.startsWith("1"));
    if (this.#gotHead) this.#trailers = fields;
    else if (!informational) {
      this.#gotHead = true;
      this.#head.resolve(fields);
    }
    if (end) this.#endRemote();
  }

  /** @param size on the wire, with padding */
  receiveData(bytes: Uint8Array, size: number, end: boolean): void {
    this.#receiveWindow -= size;
    if (this.#receiveWindow < 0) throw new Http2Error(ERROR.flowControl, "the peer sends more than it may");
    if (this.#failure !== undefined) this.#host.consumed(size);
    else {
      if (size > bytes.byteLength) this.#acknowledge(size - bytes.byteLength);
      if (bytes.byteLength > 0) this.#received.push(bytes);
    }
    if (end) this.#endRemote();
    this.#wake();
  }

  /** After a whole answer, a reset without error only means that the rest of the question is not wanted. */
  receiveReset(code: number, reason: Error): void {
    if (code !== ERROR.none || !this.#remoteEnded) return this.fail(reason);
    if (!this.#localEnded) this.#endLocal();
  }

  growWindow(by: number): void {
    this.#sendWindow += by;
    if (this.#sendWindow > MAX_WINDOW) throw new Http2Error(ERROR.flowControl, "a window grows too large");
  }

  /** Over, for a reason that both readers and writers get. */
  fail(reason: Error): void {
    if (this.#failure !== undefined) return;
    this.#drop(reason);
    this.#head.reject(reason);
    this.#aborted.abort(reason);
    this.#host.finished(this);
  }

  /** What nobody reads any more makes room for others. */
  #drop(reason: Error): void {
    this.#failure = reason;
    for (const piece of this.#received.splice(0)) this.#host.consumed(piece.byteLength);
    this.#wake();
  }

  #endRemote(): void {
    this.#remoteEnded = true;
    if (!this.#gotHead) return this.fail(new Http2Error(ERROR.protocol, "an answer has no headers"));
    this.#wake();
    if (this.#localEnded) this.#host.finished(this);
  }

  #endLocal(): void {
    this.#localEnded = true;
    if (this.#remoteEnded) this.#host.finished(this);
  }
}
