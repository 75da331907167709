/**
 * How one request gets to a host and its answer back, by whatever version of HTTP. No time limits, no words for people:
 * those are the transport's.
 *
 * @module
 */
import type { HttpRequest } from "./http.ts";

export interface WireRequest {
  readonly method: HttpRequest["method"];
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: HttpRequest["body"];
  /** Not on a connection that others use. */
  readonly apart: boolean;
  /** Aborting gives up the request, and its answer's body too; with a `TimedOut` when the host took too long. */
  readonly signal: AbortSignal;
}

export interface WireAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array> | null;
  /** To be told whether the body came to its end. */
  ended?(whole: boolean): void;
}

/** @throws Error with a `code` such as ECONNREFUSED */
export type Wire = (request: WireRequest) => Promise<WireAnswer>;

export class TimedOut extends Error {
  override readonly name = "TimedOut";
}
