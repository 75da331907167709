/**
 * Learnt lists: what the first run of an image reads is kept beside the cache, and fetched ahead by later ones.
 *
 * @module
 */
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { corrupt, isCode, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { encodeTrace, MAX_TRACE, parseTrace, type Trace } from "../blob/trace.ts";
import type { RafsImage } from "../rafs/image.ts";
import type { ImageBlobs } from "./image-blobs.ts";
import { fetchAhead } from "./prefetching.ts";

/** A container has started by then; what it reads later is its work, not its start. */
const RECORD_MS = 60_000;
/** An unmount takes at most this much longer for a list that is sent. */
const KEEP_MS = 3000;

export interface TracedMount {
  readonly id: string;
  readonly image: RafsImage;
  /** Hex digest of the bootstrap: what a learnt list belongs to. */
  readonly bootstrap: string;
  readonly blobs: ImageBlobs;
  /** A trace to replay instead of the learnt one, and a file for one of the whole time that the image is mounted. */
  readonly trace?: string;
  readonly record?: string;
  /** Paths to fetch ahead besides. */
  readonly paths?: readonly string[];
  /** The list that is kept beside the image, if there is one. */
  readonly keptList?: () => Promise<Trace | undefined>;
  /** Keeps what was learnt beside the image. */
  readonly keepList?: (trace: Trace) => Promise<void>;
}

/** Without the image, whose bootstrap would stay in memory. */
type RecordedMount = Omit<TracedMount, "image" | "paths">;

export class Traces {
  readonly #directory: string;
  readonly #log: Logger;
  /** Mounts that are recorded, with what ends it. */
  readonly #recording = new Map<string, { readonly mount: RecordedMount; readonly timer: Timer }>();
  readonly #records = new Map<string, RecordedMount>();

  constructor(cacheDirectory: string, log: Logger) {
    this.#directory = join(cacheDirectory, "traces");
    this.#log = log;
  }

  /** Whether a run of this bootstrap was learnt. */
  has(bootstrap: string): boolean {
    return existsSync(this.#path(bootstrap));
  }

  begin(mount: TracedMount): void {
    const { image, paths, ...recorded } = mount;
    const { id, blobs } = recorded;
    if (mount.record !== undefined) this.#records.set(id, recorded);
    const known = this.#known(mount);
    if (known === undefined) {
      const timer = setTimeout(() => {
        void this.#learn(id);
        void blobs.fillMargins();
      }, RECORD_MS);
      timer.unref();
      this.#recording.set(id, { mount: recorded, timer });
    }
    const kept = (): Promise<Trace | undefined> => this.#kept(recorded);
    const sources = { id, image, blobs, log: this.#log, known, kept };
    void fetchAhead({ ...sources, ...(paths === undefined ? {} : { paths }) });
  }

  /** Many images have none, and a mount does without. */
  async #kept({ id, blobs, keptList }: RecordedMount): Promise<Trace | undefined> {
    try {
      return await keptList?.();
    } catch (error) {
      const { message } = toNydusError(error, "read the list beside the image");
      if (!blobs.wanted.aborted) this.#log.info(message, { mount: id });
      return undefined;
    }
  }

  /** Whether this is the image's first run here, and its start is not over yet. */
  isLearning(id: string): boolean {
    return this.#recording.has(id);
  }

  /** Before the mount's blobs are let go. Waits a little for a list that is on its way to the registry. */
  async end(id: string): Promise<void> {
    const kept = this.#learn(id);
    const mount = this.#records.get(id);
    this.#records.delete(id);
    if (mount?.record !== undefined) this.#write(mount.record, mount.blobs.trace());
    const patience = new AbortController();
    await Promise.race([kept, sleep(KEEP_MS, undefined, { signal: patience.signal }).catch(() => {})]);
    patience.abort();
  }

  #known({ trace, bootstrap }: RecordedMount): Trace | undefined {
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

  /** @returns when the list is where it is to be kept. Never rejects */
  async #learn(id: string): Promise<void> {
    const recording = this.#recording.get(id);
    if (recording === undefined) return;
    clearTimeout(recording.timer);
    this.#recording.delete(id);
    const trace = recording.mount.blobs.trace();
    if (trace.length === 0) return;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const { bootstrap, keepList } = recording.mount;
    this.#write(this.#path(bootstrap), trace);
    await keepList?.(trace).catch((error: unknown) =>
      this.#log.warn(toNydusError(error, "keep the list beside the image").message, { mount: id }),
    );
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
