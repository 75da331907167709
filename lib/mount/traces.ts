/**
 * Learnt lists: what the first run of an image reads is kept beside the cache, and fetched ahead by later ones.
 *
 * @module
 */
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { corrupt, isCode, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { encodeTrace, MAX_TRACE, parseTrace, type Trace } from "../blob/trace.ts";
import type { ImageBlobs } from "./image-blobs.ts";

/** A container has started by then; what it reads later is its work, not its start. */
const RECORD_MS = 60_000;

export interface TracedMount {
  readonly id: string;
  /** Hex digest of the bootstrap: what a learnt list belongs to. */
  readonly bootstrap: string;
  readonly blobs: ImageBlobs;
  /** A trace to replay instead of the learnt one, and a file for one of the whole time that the image is mounted. */
  readonly trace?: string;
  readonly record?: string;
}

export class Traces {
  readonly #directory: string;
  readonly #log: Logger;
  /** Mounts that are recorded, with what ends it. */
  readonly #recording = new Map<string, { readonly mount: TracedMount; readonly timer: Timer }>();
  readonly #records = new Map<string, TracedMount>();

  constructor(cacheDirectory: string, log: Logger) {
    this.#directory = join(cacheDirectory, "traces");
    this.#log = log;
  }

  begin(mount: TracedMount): void {
    if (mount.record !== undefined) this.#records.set(mount.id, mount);
    const trace = this.#known(mount);
    if (trace !== undefined) {
      this.#log.info("fetching ahead what an earlier run read", { mount: mount.id, ranges: trace.length });
      void mount.blobs.prefetch(trace);
      return;
    }
    const timer = setTimeout(() => this.#learn(mount.id), RECORD_MS);
    timer.unref();
    this.#recording.set(mount.id, { mount, timer });
  }

  /** Before the mount's blobs are let go. */
  end(id: string): void {
    this.#learn(id);
    const mount = this.#records.get(id);
    this.#records.delete(id);
    if (mount?.record !== undefined) this.#write(mount.record, mount.blobs.trace());
  }

  #known({ trace, bootstrap }: TracedMount): Trace | undefined {
    try {
      return readTrace(trace ?? this.#path(bootstrap));
    } catch (error) {
      if (!isCode(error, "not_found")) this.#log.warn(toNydusError(error, "read the learnt list").message);
      return undefined;
    }
  }

  #path(bootstrap: string): string {
    return join(this.#directory, `${bootstrap}.json`);
  }

  #learn(id: string): void {
    const recording = this.#recording.get(id);
    if (recording === undefined) return;
    clearTimeout(recording.timer);
    this.#recording.delete(id);
    const trace = recording.mount.blobs.trace();
    if (trace.length === 0) return;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    this.#write(this.#path(recording.mount.bootstrap), trace);
  }

  /** Nobody waits for a list, so a failure is only told. */
  #write(path: string, trace: Trace): void {
    try {
      writeFileSync(`${path}.new`, encodeTrace(trace), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (error) {
      this.#log.error(toNydusError(error, `write the trace "${path}"`).message);
    }
  }
}

type Timer = ReturnType<typeof setTimeout>;

/** @throws not_found, corrupt */
export function readTrace(path: string): Trace {
  try {
    const { size } = statSync(path);
    if (size > MAX_TRACE) throw corrupt(`Cannot read trace "${path}": it has ${size} bytes`);
    return parseTrace(readFileSync(path));
  } catch (error) {
    throw toNydusError(error, `read trace "${path}"`);
  }
}
