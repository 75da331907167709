/**
 * Pull secrets of a cluster, followed as they change: secrets of type kubernetes.io/dockerconfigjson, listed once and
 * then watched. Spec: Kubernetes' API concepts, "Efficient detection of changes".
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import { corrupt, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { CredentialSource } from "../registry/credentials.ts";
import { type Auths, matching, parseAuths } from "./auths.ts";
import type { KubeClient } from "./kube-client.ts";

const PATH = "/api/v1/secrets";
const TYPE = "kubernetes.io/dockerconfigjson";
const SELECTOR = { fieldSelector: `type=${TYPE}` } as const;
const PAGE = "500";
/** The server ends a watch after so many seconds; the next one logs in again. */
const WATCH_SECONDS = "300";
/** A watch whose connection died silently is given up after this. */
const WATCH_LIMIT_MS = 330_000;
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [500, 30_000];
/** How long whoever needs credentials waits for the first list. */
const FIRST_LIST_MS = 10_000;
/** One event; a secret has at most 1 MiB. */
const LINE_LIMIT = 4 * 1024 * 1024;

type Table = Readonly<Record<string, unknown>>;

export class KubernetesSecrets implements Disposable {
  readonly #client: KubeClient;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #listed = Promise.withResolvers<void>();
  /** By uid. */
  #auths = new Map<string, Auths>();

  constructor(client: KubeClient, log: Logger) {
    this.#client = client;
    this.#log = log;
    void this.#follow();
  }

  /** Secrets known at the moment. */
  get count(): number {
    return this.#auths.size;
  }

  readonly source: CredentialSource = async (registry, { repository = "", refused = [] }) => {
    await Promise.race([this.#listed.promise, sleep(FIRST_LIST_MS, undefined, { ref: false })]);
    return matching([...this.#auths.values()], { registry, repository }, refused)[0];
  };

  async #follow(): Promise<void> {
    let pause = FIRST_PAUSE_MS;
    while (!this.#stop.signal.aborted) {
      try {
        const version = await this.#list();
        this.#listed.resolve();
        pause = FIRST_PAUSE_MS;
        await this.#watch(version);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        const { message } = toNydusError(error, "follow Kubernetes' secrets");
        this.#log.warn("cannot follow Kubernetes' secrets; trying again", { error: message, waitMs: pause });
        // Whoever waits has other sources.
        this.#listed.resolve();
        await sleep(pause, undefined, { signal: this.#stop.signal, ref: false }).catch(() => {});
        pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
      }
    }
  }

  /** @returns the version that a watch goes on from */
  async #list(): Promise<string> {
    const found = new Map<string, Auths>();
    let next = "";
    for (;;) {
      const query = { ...SELECTOR, limit: PAGE, ...(next === "" ? {} : { continue: next }) };
      const response = await this.#client.get(PATH, query, this.#stop.signal);
      const { metadata, items } = parseJson(await response.text());
      for (const item of Array.isArray(items) ? items : []) read(asTable(item), found);
      const { resourceVersion, continue: more } = asTable(metadata);
      if (typeof more === "string" && more !== "") next = more;
      else {
        this.#auths = found;
        return String(resourceVersion ?? "");
      }
    }
  }

  /** Until the list must be made again. */
  async #watch(from: string): Promise<void> {
    let version = from;
    for (;;) {
      const query = {
        ...SELECTOR,
        ...{ watch: "true", allowWatchBookmarks: "true" },
        ...{ resourceVersion: version, timeoutSeconds: WATCH_SECONDS },
      };
      const limit = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(WATCH_LIMIT_MS)]);
      const response = await this.#client.get(PATH, query, limit);
      for await (const line of linesOf(response)) {
        const { type, object } = parseJson(line);
        const secret = asTable(object);
        // Mostly 410: the version is too old.
        if (type === "ERROR") return;
        version = String(asTable(secret.metadata).resourceVersion ?? version);
        if (type === "DELETED") this.#auths.delete(uidOf(secret));
        else if (type !== "BOOKMARK") read(secret, this.#auths);
      }
    }
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    this.#listed.resolve();
    this.#auths.clear();
  }
}

/** One that cannot be read is nobody's; what it held before is forgotten. */
function read(secret: Table, into: Map<string, Auths>): void {
  into.delete(uidOf(secret));
  const encoded = asTable(secret.data)[".dockerconfigjson"];
  if (typeof encoded !== "string") return;
  try {
    const { auths } = asTable(JSON.parse(Buffer.from(encoded, "base64").toString()));
    into.set(uidOf(secret), parseAuths(auths));
  } catch {} // not JSON
}

function uidOf(secret: Table): string {
  const { uid, namespace, name } = asTable(secret.metadata);
  return typeof uid === "string" ? uid : `${namespace}/${name}`;
}

async function* linesOf(response: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body ?? []) {
    rest += decoder.decode(bytes, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LINE_LIMIT) throw corrupt("Cannot follow Kubernetes' secrets: an event has no end");
    yield* lines.filter((line) => line !== "");
  }
}

/** Without the parser's words: they quote the text, which holds secrets. */
function parseJson(text: string): Table {
  try {
    return asTable(JSON.parse(text));
  } catch {
    throw corrupt("Cannot follow Kubernetes' secrets: an answer is not JSON");
  }
}

function asTable(value: unknown): Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Table) : {};
}
