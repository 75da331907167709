/**
 * One HTTP/2 connection over a socket (RFC 9113), either side of it: as much as gRPC needs. It exists because the
 * `node:http2` of Bun 1.4 stops sending for good when the peer's SETTINGS raise the window while data waits for it
 * (oven-sh/bun#30319), and containerd's gRPC does just that: long lists and layers hung.
 *
 * Left out: push, priorities, and limits on concurrent streams.
 *
 * @module
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import {
  DEFAULT_WINDOW,
  ERROR,
  encodeFrame,
  encodeSettings,
  FLAG,
  type Frame,
  FrameReader,
  Http2Error,
  MAX_WINDOW,
  PREFACE,
  SETTING,
  TYPE,
  u32,
  unpadded,
} from "./frames.ts";
import { type HeaderField, HpackDecoder } from "./hpack.ts";
import { Http2Stream, STREAM_WINDOW, type StreamHost } from "./stream.ts";

/** Bytes that the peer may send on all streams before we have read them. */
const CONNECTION_WINDOW = 8 * STREAM_WINDOW;
/** Bytes of one header block on the wire; each of its frames counts a little more than it holds. */
const HEADERS_LIMIT = 64 * 1024;
const FRAME_COST = 16;
/** Answers to a peer that asks and asks (pings, settings) but reads nothing: bytes that may wait to be sent. */
const UNREAD_LIMIT = 2 ** 20;

export interface ConnectionOptions {
  readonly role: "client" | "server";
  /** A request came (servers only). */
  readonly onStream?: (stream: Http2Stream) => void;
}

interface OpenHeaders {
  readonly stream: number;
  readonly endStream: boolean;
  readonly parts: Buffer[];
  size: number;
}

export class Http2Connection {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #reader: FrameReader;
  readonly #decoder = new HpackDecoder();
  readonly #streams = new Map<number, Http2Stream>();
  readonly #host: StreamHost;
  readonly #closed = Promise.withResolvers<void>();
  #headers: OpenHeaders | undefined;
  #lastRemote = 0;
  #nextLocal = 1;
  #sendWindow = DEFAULT_WINDOW;
  #initialWindow = DEFAULT_WINDOW;
  #receiveWindow = CONNECTION_WINDOW;
  #consumed = 0;
  #windowChange = Promise.withResolvers<void>();
  #draining = false;
  #over = false;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#reader = new FrameReader(options.role === "server");
    this.#host = this.#makeHost();
    socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    socket.on("error", (error) => this.#end(lost(error)));
    socket.on("close", () => this.#end(lost()));
    if (options.role === "client") socket.write(PREFACE);
    const settings: [number, number][] = [[SETTING.initialWindowSize, STREAM_WINDOW]];
    if (options.role === "client") settings.push([SETTING.enablePush, 0]);
    this.#send(TYPE.settings, 0, 0, encodeSettings(settings));
    this.#send(TYPE.windowUpdate, 0, 0, u32(CONNECTION_WINDOW - DEFAULT_WINDOW));
  }

  /** Whether new streams may be opened. */
  get usable(): boolean {
    return !this.#draining && !this.#over;
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  open(headers: readonly HeaderField[]): Http2Stream {
    if (!this.usable) throw lost();
    const stream = this.#add(this.#nextLocal);
    this.#nextLocal += 2;
    stream.sendHeaders(headers);
    return stream;
  }

  /** Let open streams end, take no new ones, then close. */
  async drain(): Promise<void> {
    if (this.usable) this.#send(TYPE.goAway, 0, 0, u32(this.#lastRemote, ERROR.none));
    this.#draining = true;
    this.#closeWhenIdle();
    await this.closed;
  }

  destroy(): void {
    this.#end(lost());
  }

  #makeHost(): StreamHost {
    return {
      send: (type, flags, stream, payload) => this.#send(type, flags, stream, payload),
      writable: async () => {
        if (this.#socket.writableNeedDrain && !this.#over)
          await Promise.race([once(this.#socket, "drain"), this.closed]);
      },
      takeWindow: (most) => {
        const size = Math.max(0, Math.min(most, this.#sendWindow));
        this.#sendWindow -= size;
        return size;
      },
      windowChange: () => this.#windowChange.promise,
      consumed: (bytes) => this.#consume(bytes),
      finished: ({ id }) => {
        this.#streams.delete(id);
        this.#wakeWriters();
        this.#closeWhenIdle();
      },
    };
  }

  #add(id: number): Http2Stream {
    const stream = new Http2Stream(id, this.#host, this.#initialWindow);
    this.#streams.set(id, stream);
    return stream;
  }

  #send(type: number, flags: number, stream: number, payload: Uint8Array): void {
    if (!this.#over) this.#socket.write(encodeFrame(type, flags, stream, payload));
  }

  #answer(type: number, payload: Uint8Array): void {
    if (this.#socket.writableLength > UNREAD_LIMIT)
      throw new Http2Error(ERROR.calm, "the peer asks faster than it reads");
    this.#send(type, FLAG.ack, 0, payload);
  }

  #consume(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < CONNECTION_WINDOW / 2) return;
    this.#receiveWindow += this.#consumed;
    this.#send(TYPE.windowUpdate, 0, 0, u32(this.#consumed));
    this.#consumed = 0;
  }

  #wakeWriters(): void {
    this.#windowChange.resolve();
    this.#windowChange = Promise.withResolvers();
  }

  #receive(bytes: Buffer): void {
    if (this.#over) return;
    try {
      for (const frame of this.#reader.push(bytes)) this.#handle(frame);
    } catch (error) {
      const known = error instanceof Http2Error ? error : new Http2Error(ERROR.compression, String(error));
      this.#send(TYPE.goAway, 0, 0, u32(this.#lastRemote, known.http2Code));
      this.#end(known);
    }
  }

  #handle(frame: Frame): void {
    if (this.#headers !== undefined && frame.type !== TYPE.continuation)
      throw new Http2Error(ERROR.protocol, "headers are interrupted");
    switch (frame.type) {
      case TYPE.data:
        return this.#onData(frame);
      case TYPE.headers:
        return this.#onHeaders(frame);
      case TYPE.continuation:
        return this.#onContinuation(frame);
      case TYPE.reset:
        return this.#onReset(frame);
      case TYPE.settings:
        return this.#onSettings(frame);
      case TYPE.ping:
        if ((frame.flags & FLAG.ack) === 0) this.#answer(TYPE.ping, frame.payload);
        return;
      case TYPE.goAway:
        return this.#onGoAway(numberIn(frame, 0) & 0x7fffffff);
      case TYPE.windowUpdate:
        return this.#onWindowUpdate(frame);
      case TYPE.pushPromise:
        throw new Http2Error(ERROR.protocol, "nothing may be pushed");
      default: // PRIORITY, and what later standards add
    }
  }

  #onData(frame: Frame): void {
    const size = frame.payload.byteLength;
    this.#receiveWindow -= size;
    if (this.#receiveWindow < 0) throw new Http2Error(ERROR.flowControl, "the peer sends more than it may");
    const stream = this.#streams.get(frame.stream);
    // A stream that we gave up: only the window is of interest.
    if (stream === undefined) return this.#consume(size);
    stream.receiveData(unpadded(frame), size, (frame.flags & FLAG.endStream) !== 0);
  }

  #onHeaders(frame: Frame): void {
    const endStream = (frame.flags & FLAG.endStream) !== 0;
    this.#headers = { stream: frame.stream, endStream, parts: [], size: 0 };
    this.#addHeaders(unpadded(frame), frame.flags);
  }

  #onContinuation(frame: Frame): void {
    if (this.#headers?.stream !== frame.stream)
      throw new Http2Error(ERROR.protocol, "headers go on that have not begun");
    this.#addHeaders(frame.payload, frame.flags);
  }

  #addHeaders(part: Buffer, flags: number): void {
    const open = this.#headers;
    if (open === undefined) return;
    open.parts.push(part);
    open.size += part.byteLength + FRAME_COST;
    if (open.size > HEADERS_LIMIT) throw new Http2Error(ERROR.protocol, "headers are too long");
    if ((flags & FLAG.endHeaders) === 0) return;
    this.#headers = undefined;
    // Decoded even when nobody wants them: the table must stay the same on both sides.
    const fields = this.#decoder.decode(Buffer.concat(open.parts));
    this.#streamFor(open.stream)?.receiveHeaders(fields, open.endStream);
  }

  #streamFor(id: number): Http2Stream | undefined {
    const known = this.#streams.get(id);
    if (known !== undefined || this.#options.role === "client") return known;
    if (id % 2 === 0) throw new Http2Error(ERROR.protocol, `a client opened stream ${id}`);
    if (id <= this.#lastRemote || this.#draining) return undefined;
    this.#lastRemote = id;
    const stream = this.#add(id);
    this.#options.onStream?.(stream);
    return stream;
  }

  #onReset(frame: Frame): void {
    const code = numberIn(frame, 0);
    this.#streams.get(frame.stream)?.receiveReset(code, resetError(code));
  }

  #onSettings({ flags, payload }: Frame): void {
    if (flags & FLAG.ack) return;
    if (payload.byteLength % 6 !== 0) throw new Http2Error(ERROR.frameSize, "settings are cut short");
    for (let at = 0; at < payload.byteLength; at += 6)
      if (payload.readUInt16BE(at) === SETTING.initialWindowSize)
        this.#changeInitialWindow(payload.readUInt32BE(at + 2));
    this.#answer(TYPE.settings, new Uint8Array());
  }

  /** Section 6.9.2: windows of open streams change by the difference, and may become negative. */
  #changeInitialWindow(size: number): void {
    if (size > MAX_WINDOW) throw new Http2Error(ERROR.flowControl, "the initial window is too large");
    for (const stream of this.#streams.values()) stream.growWindow(size - this.#initialWindow);
    this.#initialWindow = size;
    this.#wakeWriters();
  }

  #onWindowUpdate(frame: Frame): void {
    const by = numberIn(frame, 0) & 0x7fffffff;
    if (by === 0) throw new Http2Error(ERROR.protocol, "a window grows by nothing");
    if (frame.stream === 0) {
      this.#sendWindow += by;
      if (this.#sendWindow > MAX_WINDOW) throw new Http2Error(ERROR.flowControl, "a window grows too large");
    } else this.#streams.get(frame.stream)?.growWindow(by);
    this.#wakeWriters();
  }

  /** Streams that the peer has not begun to serve will never be. */
  #onGoAway(last: number): void {
    this.#draining = true;
    if (this.#options.role === "client")
      for (const stream of [...this.#streams.values()]) if (stream.id > last) stream.fail(lost());
    this.#closeWhenIdle();
  }

  #closeWhenIdle(): void {
    if (this.#draining && this.#streams.size === 0 && !this.#over) this.#socket.end();
  }

  #end(reason: Error): void {
    if (this.#over) return;
    this.#over = true;
    for (const stream of [...this.#streams.values()]) stream.fail(reason);
    this.#wakeWriters();
    this.#socket.destroySoon();
    this.#closed.resolve();
  }
}

function numberIn({ payload }: Frame, at: number): number {
  if (payload.byteLength < at + 4) throw new Http2Error(ERROR.frameSize, "a frame is cut short");
  return payload.readUInt32BE(at);
}

function lost(cause?: unknown): Http2Error {
  return new Http2Error(ERROR.none, "the connection is lost", "unavailable", { cause });
}

function resetError(code: number): Http2Error {
  if (code === ERROR.cancel) return new Http2Error(code, "the peer gave up", "cancelled");
  if (code === ERROR.refused) return new Http2Error(code, "the peer is too busy", "unavailable");
  return new Http2Error(code, `the peer reset the stream (${code})`, "internal");
}
