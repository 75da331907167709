/**
 * Writing one blob into containerd's content store: a bidirectional stream in which each request is answered. Some
 * requests are sent ahead of their answers, which doubles the rate.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { isCode, NydusError } from "../base/error.ts";
import { abortable } from "../content/abortable.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { ContainerdClient } from "./client.ts";
import {
  Content,
  WriteAction,
  type WriteContentRequestSchema,
  type WriteContentResponse,
} from "./gen/content_pb.ts";

type Request = MessageInitShape<typeof WriteContentRequestSchema>;

/** Bytes in one request: large enough that the answers do not count, small beside containerd's limit of 16 MiB. */
const PIECE_SIZE = 256 * 1024;
/** Requests on their way at once. */
const AHEAD = 4;

export interface IngestOptions {
  readonly labels?: Readonly<Record<string, string>>;
  readonly sent?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

/** Opens a verified body; called only when the blob is not there yet. */
export type OpenBody = () => Promise<ReadableStream<Uint8Array>>;

/**
 * Store a blob. Two writers of one blob do not disturb each other: the later commit finds the blob there.
 * What a failed write left behind is given up at once.
 */
export async function ingest(
  client: ContainerdClient,
  descriptor: Descriptor,
  open: OpenBody,
  options: IngestOptions = {},
): Promise<"written" | "exists"> {
  const ref = `nydus-tool-${randomUUID()}`;
  const action = `write blob "${descriptor.digest}"`;
  try {
    await client.call(action, () => send(client, ref, descriptor, open, options));
    return "written";
  } catch (error) {
    if (isCode(error, "exists")) return "exists";
    await client
      .service(Content)
      .abort({ ref })
      .catch(() => {}); // the collector takes it at the latest
    throw error;
  }
}

async function send(
  client: ContainerdClient,
  ref: string,
  descriptor: Descriptor,
  open: OpenBody,
  { labels = {}, sent, signal }: IngestOptions,
): Promise<void> {
  const common = { ref, total: BigInt(descriptor.size), expected: descriptor.digest };
  const stopped = new AbortController();
  const stop = signal === undefined ? stopped.signal : AbortSignal.any([signal, stopped.signal]);
  const requests = new Queue<Request>();
  const answers = client.service(Content).write(requests, { signal: stop })[Symbol.asyncIterator]();
  let offset = 0;
  let pending = 0;
  const answer = async (): Promise<WriteContentResponse> => {
    const next = await answers.next();
    if (next.done === true)
      throw new NydusError("unavailable", "Cannot write to containerd: its stream ended early");
    pending--;
    return next.value;
  };
  const ask = (request: Request): void => {
    pending++;
    requests.push(request);
  };
  try {
    ask({ ...common, action: WriteAction.STAT });
    await answer();
    for await (const piece of pieces(abortable(await open(), stop))) {
      ask({ ...common, action: WriteAction.WRITE, offset: BigInt(offset), data: piece });
      offset += piece.byteLength;
      sent?.(piece.byteLength);
      if (pending >= AHEAD) await answer();
    }
    while (pending > 0) await answer();
    ask({ ...common, action: WriteAction.COMMIT, offset: BigInt(offset), labels: { ...labels } });
    await answer();
  } catch (error) {
    stopped.abort();
    throw error;
  } finally {
    requests.end();
  }
}

async function* pieces(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const bytes of body) {
    for (let at = 0; at < bytes.byteLength; at += PIECE_SIZE) yield bytes.subarray(at, at + PIECE_SIZE);
  }
}

/** An async iterable that is fed from outside. */
class Queue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #ended = false;
  #wake: () => void = () => {};

  push(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) yield item;
      else if (this.#ended) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}
