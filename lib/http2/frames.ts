/** HTTP/2 frames on the wire (RFC 9113, sections 4 and 6). @module */

import { type ErrorCode, NydusError } from "../base/error.ts";

export const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** `ack` and `endStream` are the same bit of different types. */
export const FLAG = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const SETTING = { enablePush: 2, initialWindowSize: 4 } as const;

export const ERROR = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  frameSize: 6,
  refused: 7,
  cancel: 8,
  compression: 9,
  calm: 11,
} as const;

/** What a client says first. */
export const PREFACE: Uint8Array = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** The default, which both sides here keep: larger frames would only make others wait longer. */
export const MAX_FRAME_SIZE = 16_384;
/** The default, before SETTINGS say otherwise. */
export const DEFAULT_WINDOW = 65_535;
export const MAX_WINDOW: number = 2 ** 31 - 1;

const HEADER_SIZE = 9;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export function encodeFrame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_SIZE + payload.byteLength);
  frame.writeUIntBE(payload.byteLength, 0, 3);
  frame.writeUInt8(type, 3);
  frame.writeUInt8(flags, 4);
  frame.writeUInt32BE(stream, 5);
  frame.set(payload, HEADER_SIZE);
  return frame;
}

export function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
  return bytes;
}

export function encodeSettings(settings: readonly (readonly [id: number, value: number])[]): Buffer {
  const bytes = Buffer.allocUnsafe(6 * settings.length);
  for (const [i, [id, value]] of settings.entries()) {
    bytes.writeUInt16BE(id, 6 * i);
    bytes.writeUInt32BE(value, 6 * i + 2);
  }
  return bytes;
}

/** What ended a stream or the whole connection. */
export class Http2Error extends NydusError {
  /** RFC 9113 section 7: what GOAWAY and RST_STREAM say. */
  readonly http2Code: number;
  /** The message without its beginning. */
  readonly state: string;

  constructor(http2Code: number, state: string, code: ErrorCode = "corrupt", options?: ErrorOptions) {
    super(code, `Cannot go on with HTTP/2: ${state}`, options);
    this.http2Code = http2Code;
    this.state = state;
  }
}

/** Cuts a byte stream into frames. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);
  #preface: boolean;

  /** @param preface whether a client's preface comes first */
  constructor(preface: boolean) {
    this.#preface = preface;
  }

  *push(bytes: Buffer): Generator<Frame> {
    this.#rest = this.#rest.byteLength === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    if (this.#preface && !this.#takePreface()) return;
    for (;;) {
      if (this.#rest.byteLength < HEADER_SIZE) return;
      const length = this.#rest.readUIntBE(0, 3);
      if (length > MAX_FRAME_SIZE) throw new Http2Error(ERROR.frameSize, `a frame has ${length} bytes`);
      if (this.#rest.byteLength < HEADER_SIZE + length) return;
      const head = this.#rest;
      const payload = head.subarray(HEADER_SIZE, HEADER_SIZE + length);
      this.#rest = head.subarray(HEADER_SIZE + length);
      yield {
        type: head.readUInt8(3),
        flags: head.readUInt8(4),
        stream: head.readUInt32BE(5) & 0x7fffffff,
        payload,
      };
    }
  }

  #takePreface(): boolean {
    const have = Math.min(this.#rest.byteLength, PREFACE.byteLength);
    if (!this.#rest.subarray(0, have).equals(PREFACE.subarray(0, have)))
      throw new Http2Error(ERROR.protocol, "the peer does not speak HTTP/2");
    if (have < PREFACE.byteLength) return false;
    this.#rest = this.#rest.subarray(PREFACE.byteLength);
    this.#preface = false;
    return true;
  }
}

/** The payload without padding (and without the priority that HEADERS may carry). */
export function unpadded({ type, flags, payload }: Frame): Buffer {
  const padding = flags & FLAG.padded ? (payload[0] ?? 0) : 0;
  const skip = (flags & FLAG.padded ? 1 : 0) + (type === TYPE.headers && flags & FLAG.priority ? 5 : 0);
  if (skip + padding > payload.byteLength)
    throw new Http2Error(ERROR.protocol, "a frame has too much padding");
  return payload.subarray(skip, payload.byteLength - padding);
}
