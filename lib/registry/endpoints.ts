/**
 * The places that serve one repository: a proxy, mirrors in their order, then the registry itself. One that fails rests for a
 * while and comes last; none is ever given up for good.
 *
 * @module
 */
import type { SourceStatus } from "../content/content.ts";
import type { Send } from "./http.ts";
import type { Pace } from "./pace.ts";

export type Capability = "pull" | "resolve" | "push";

export interface Endpoint {
  /** For messages: "host:port", perhaps with a path. No secrets. */
  readonly name: string;
  readonly capabilities: ReadonlySet<Capability>;
  readonly send: Send;
  readonly pace: Pace;
  /** Asked for blobs only. */
  readonly forBlobs: boolean;
  /** False while its health check says no. */
  readonly isUp: boolean;
  /** A URL under the repository: "blobs/sha256:...". */
  url(path: string): URL;
}

/** Milliseconds that a place rests after its first failure in a row; each further one doubles them. */
const FIRST_REST = 1000;
const LONGEST_REST = 60_000;
/** How long a place is passed over for a blob that it gave wrong bytes of, or cannot give in parts (milliseconds). */
const MEMORY = 300_000;
/** Blobs with such a mark; the oldest is forgotten first. */
const MAX_MARKS = 1024;

interface Health {
  failures: number;
  /** Milliseconds on the clock below. */
  restsUntil: number;
}

export class Endpoints {
  readonly all: readonly Endpoint[];
  readonly #now: () => number;
  readonly #health = new Map<Endpoint, Health>();
  /** Until when a place is not asked for parts of a blob: "kind digest place". */
  readonly #marks = new Map<string, number>();
  readonly #failures = new Map<Endpoint, Pick<SourceStatus, "failures" | "lastFailure">>();

  /** @param all in order of preference; the registry itself comes last */
  constructor(all: readonly Endpoint[], now: () => number = () => performance.now()) {
    this.all = all;
    this.#now = now;
  }

  /** Those that can do it, the best first. With a digest, those that serve this blob badly come last. */
  order(capability: Capability, digest?: string): readonly Endpoint[] {
    const rank = (endpoint: Endpoint): number =>
      (this.isResting(endpoint) || !endpoint.isUp ? 1 : 0) +
      (digest !== undefined && this.#distrusted(digest, endpoint) ? 2 : 0);
    const able = this.all.filter(({ capabilities }) => capabilities.has(capability));
    return able.toSorted((a, b) => rank(a) - rank(b));
  }

  /** Whether it failed and has not been left alone for long enough. */
  isResting(endpoint: Endpoint): boolean {
    return (this.#health.get(endpoint)?.restsUntil ?? 0) > this.#now();
  }

  get status(): readonly SourceStatus[] {
    return this.all.map((endpoint) => ({
      name: endpoint.name,
      state: !endpoint.isUp ? "down" : this.isResting(endpoint) ? "resting" : "well",
      ...(this.#failures.get(endpoint) ?? { failures: 0 }),
    }));
  }

  /** @param why what to tell people @param retryAfter seconds that it asked for */
  failed(endpoint: Endpoint, why: string, retryAfter?: number): void {
    this.#failures.set(endpoint, {
      failures: (this.#failures.get(endpoint)?.failures ?? 0) + 1,
      lastFailure: { error: why, at: Date.now() },
    });
    const failures = (this.#health.get(endpoint)?.failures ?? 0) + 1;
    const rest = Math.min(LONGEST_REST, FIRST_REST * 2 ** Math.min(failures - 1, 10));
    this.#health.set(endpoint, {
      failures,
      restsUntil: this.#now() + Math.max(rest, (retryAfter ?? 0) * 1000),
    });
  }

  /** It gave bytes: its failures do not count any more. */
  served(endpoint: Endpoint): void {
    this.#health.delete(endpoint);
  }

  /** The place gave wrong bytes of this blob: ask elsewhere, if there is an elsewhere. */
  distrust(digest: string, place: string): void {
    this.#mark(`wrong ${digest} ${place}`);
  }

  #distrusted(digest: string, endpoint: Endpoint): boolean {
    return this.#isMarked(`wrong ${digest} ${endpoint.name}`) || !this.givesRanges(endpoint, digest);
  }

  /** It answered with the whole blob where a part was asked for. */
  ignoresRanges(endpoint: Endpoint, digest: string): void {
    this.#mark(`whole ${digest} ${endpoint.name}`);
  }

  givesRanges(endpoint: Endpoint, digest: string): boolean {
    return !this.#isMarked(`whole ${digest} ${endpoint.name}`);
  }

  #mark(key: string): void {
    this.#marks.delete(key);
    remember(this.#marks, key, this.#now() + MEMORY);
  }

  #isMarked(key: string): boolean {
    return (this.#marks.get(key) ?? 0) > this.#now();
  }
}

function remember<T>(map: Map<string, T>, key: string, value: T): void {
  const [oldest] = map.keys();
  if (map.size >= MAX_MARKS && oldest !== undefined) map.delete(oldest);
  map.set(key, value);
}
