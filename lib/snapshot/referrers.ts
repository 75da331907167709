/**
 * Layers of ordinary images that need not be fetched, because a Nydus image refers to their image. The registry is asked
 * once for each image, when its first layer comes; whatever goes wrong, the image is pulled the ordinary way.
 *
 * @module
 */
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Digest } from "../base/digest.ts";
import { toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { chainIds } from "../containerd/chain-id.ts";
import type { Fetcher } from "../content/content.ts";
import type { AdoptedImage } from "../image/adopted.ts";
import { type Image, loadImage, loadImageAt } from "../image/load.ts";
import type { OpenedStore } from "../image/open.ts";
import { nydusReferrer } from "../image/referring.ts";
import { adoptedIn, moveAdopted } from "../layers/adopted-place.ts";
import { adoptLowest, adoptReferring, assertFits } from "../layers/refer.ts";
import { formatReference, parseReference } from "../oci/reference.ts";

export interface ReferredLayer {
  /** The image's, as containerd knows it. */
  readonly reference: string;
  /** Of the image. */
  readonly manifest: Digest;
  readonly chainId: Digest;
}

/** Where the layer is in the image that a Nydus image refers to. */
export type LayerPlace = "top" | "lower";

export interface ReferrersOptions {
  readonly openImage: (reference: string) => Promise<OpenedStore>;
  /** @throws when the bootstrap cannot be mounted */
  readonly check: (bootstrap: string) => Promise<void>;
  /** Of its own: bootstraps of images that are being pulled. */
  readonly directory: string;
  readonly log: Logger;
  /** Milliseconds for the registry's answers; a pull waits for them. */
  readonly patience?: number;
  /** Milliseconds. */
  readonly now?: () => number;
}

const DEFAULT_PATIENCE = 5_000;
/** Milliseconds, also those of other waits here. */
const BOOTSTRAP_TIMEOUT = 120_000;
/** Milliseconds that an answer counts. A pull asks about many layers; the next one may find what has been pushed since. */
const ANSWER_LIFETIME = 600_000;
/** So that a registry that does not answer costs a pull no more than one timeout. */
const FAILURE_LIFETIME = 60_000;

/** A node has not so many images. */
const MOST_ANSWERS = 1000;

interface Found {
  readonly nydus: Image;
  /** Of the ordinary image's layers. */
  readonly chain: readonly Digest[];
}

interface Answer {
  readonly found: Promise<Found | undefined>;
  /** Where the bootstrap waits for the image's last layer. */
  readonly place: string;
  /** Infinity until the answer is there. */
  until: number;
}

export class Referrers {
  readonly #options: ReferrersOptions;
  readonly #answers = new Map<string, Answer>();
  #asked = 0;
  #emptied: Promise<void> | undefined;

  constructor(options: ReferrersOptions) {
    this.#options = options;
  }

  /** Undefined when the layer is to be fetched. Never fails. */
  async find(layer: ReferredLayer): Promise<LayerPlace | undefined> {
    const found = await this.#answer(layer)?.found;
    const at = found?.chain.indexOf(layer.chainId) ?? -1;
    if (found === undefined || at < 0) return undefined;
    return at === found.chain.length - 1 ? "top" : "lower";
  }

  /** Makes the bootstrap of the image up to a layer. Undefined when that is not possible. Never fails. */
  async adopt(layer: ReferredLayer, place: string): Promise<AdoptedImage | undefined> {
    const answer = this.#answer(layer);
    const found = await answer?.found;
    const count = (found?.chain.indexOf(layer.chainId) ?? -1) + 1;
    if (answer === undefined || found === undefined || count === 0) return undefined;
    try {
      if (count === found.chain.length && (await took(answer.place, place))) return adoptedIn(place);
      const { store } = await this.#options.openImage(layer.reference);
      await using _store = store;
      return await makeFrom(store, found, count, place);
    } catch (error) {
      this.#warn("the layers themselves are read instead of a Nydus image", layer, error);
      return undefined;
    }
  }

  #answer(layer: ReferredLayer): Answer | undefined {
    this.#forgetOld();
    try {
      const { registry, repository } = parseReference(layer.reference);
      // What one repository says counts for no other.
      const key = formatReference({ registry, repository, digest: layer.manifest });
      const answer = this.#answers.get(key) ?? this.#ask(layer);
      this.#answers.set(key, answer);
      return answer;
    } catch (error) {
      this.#warn("an image is pulled the ordinary way", layer, error);
      return undefined;
    }
  }

  #ask(layer: ReferredLayer): Answer {
    const { directory, now = Date.now } = this.#options;
    const place = join(directory, String(this.#asked++));
    const settle = (lifetime: number, found: Found | undefined): Found | undefined => {
      answer.until = now() + lifetime;
      return found;
    };
    const found = this.#look(layer, place).then(
      (result) => settle(ANSWER_LIFETIME, result),
      async (error: unknown) => {
        this.#warn("an image is pulled the ordinary way", layer, error);
        await discard(place);
        return settle(FAILURE_LIFETIME, undefined);
      },
    );
    const answer: Answer = { found, place, until: Number.POSITIVE_INFINITY };
    return answer;
  }

  async #look({ reference, manifest }: ReferredLayer, place: string): Promise<Found | undefined> {
    const { openImage, check, log, patience = DEFAULT_PATIENCE } = this.#options;
    const { store } = await openImage(reference);
    await using _store = store;
    const asking = { signal: AbortSignal.timeout(patience) };
    const referring = await nydusReferrer(store, manifest, asking);
    if (referring === undefined) return undefined;
    const ordinary = await loadImage(store, manifest, asking);
    const nydus = await loadImageAt(store, referring.descriptor, asking);
    assertFits(nydus, ordinary);
    await this.#emptyDirectory();
    const reading = { signal: AbortSignal.timeout(BOOTSTRAP_TIMEOUT) };
    await check((await adoptReferring(store, nydus, place, reading)).bootstrap);
    log.info("an image is started through a Nydus image", {
      image: reference,
      nydus: nydus.descriptor.digest,
    });
    return { nydus, chain: chainIds(ordinary.layers.map(({ diffId }) => diffId)) };
  }

  /** Of what a process before this one left there. */
  #emptyDirectory(): Promise<void> {
    this.#emptied ??= rm(this.#options.directory, { recursive: true, force: true });
    return this.#emptied;
  }

  #forgetOld(): void {
    const { now = Date.now } = this.#options;
    let excess = this.#answers.size - MOST_ANSWERS;
    for (const [key, { until, place }] of this.#answers) {
      if (until > now() && (excess <= 0 || until === Number.POSITIVE_INFINITY)) continue;
      this.#answers.delete(key);
      excess--;
      void discard(place);
    }
  }

  #warn(message: string, { reference, chainId }: ReferredLayer, error: unknown): void {
    const { message: reason } = toNydusError(error, "ask for a Nydus image that refers to it");
    this.#options.log.warn(message, { image: reference, layer: chainId, error: reason });
  }
}

async function makeFrom(
  store: Fetcher,
  { nydus, chain }: Found,
  count: number,
  place: string,
): Promise<AdoptedImage> {
  if (count === chain.length) return await adoptReferring(store, nydus, place);
  return await adoptLowest(store, nydus, { ordinary: chain.length, count }, place);
}

/** False when it is not there: somebody else took it. */
async function took(from: string, place: string): Promise<boolean> {
  if (adoptedIn(from) === undefined) return false;
  await mkdir(dirname(place), { recursive: true, mode: 0o700 });
  return await moveAdopted(from, place).then(
    () => true,
    () => false,
  );
}

/** Renamed first, so that nobody takes a half of it. */
async function discard(place: string): Promise<void> {
  const gone = `${place}.gone`;
  await rename(place, gone).catch(() => {}); // taken, or never made
  await rm(gone, { recursive: true, force: true }).catch(() => {}); // goes with the next start
}
