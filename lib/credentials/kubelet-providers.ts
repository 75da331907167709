/**
 * The kubelet's credential providers: programs that know how to log in to a cloud's registry. Spec:
 * credentialprovider.kubelet.k8s.io/v1. An answer is kept for as long as it says, and renewed behind its users' backs
 * shortly before that time is over.
 *
 * @module
 */
import { join } from "node:path";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { parseJsonObject } from "../oci/json.ts";
import type { CredentialSource, Credentials } from "../registry/credentials.ts";
import { runHelper } from "../registry/helper-program.ts";
import { type Auths, matching, parseAuths } from "./auths.ts";
import { parseDuration } from "./duration.ts";
import type { ProviderConfig } from "./kubelet-config.ts";
import { type ImageName, matchesImage } from "./match-image.ts";

export interface KubeletProvidersOptions {
  readonly providers: readonly ProviderConfig[];
  /** Where their programs are. */
  readonly binDirectory: string;
  readonly log: Logger;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

interface Answer {
  readonly auths: Auths;
  /** Milliseconds since 1970: asked for after the first, it is renewed meanwhile; after the second, first. */
  readonly renewAt: number;
  readonly expires: number;
}

/** The part of an answer's life after which whoever uses it has it renewed. */
const RENEW_AFTER = 0.8;
/** Answers kept, of each provider. */
const MAX_ANSWERS = 1024;
/** Of what an answer is about: its `cacheKeyType`. */
type Scope = "Image" | "Registry" | "Global";

export function kubeletProviders(options: KubeletProvidersOptions): CredentialSource {
  const providers = options.providers.map((config) => new Provider(config, options));
  return async (registry, { repository = "", refused = [], signal }) => {
    const image = { registry, repository };
    for (const provider of providers) {
      const [found] = await provider.credentials(image, refused, signal);
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

class Provider {
  readonly #config: ProviderConfig;
  readonly #options: KubeletProvidersOptions;
  readonly #now: () => number;
  readonly #answers = new Map<string, Answer>();
  readonly #flights = new Map<string, Promise<Answer>>();

  constructor(config: ProviderConfig, options: KubeletProvidersOptions) {
    this.#config = config;
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  async credentials(
    image: ImageName,
    refused: readonly Credentials[],
    signal: AbortSignal | undefined,
  ): Promise<readonly Credentials[]> {
    if (!this.#config.matchImages.some((pattern) => matchesImage(pattern, image))) return [];
    const kept = this.#kept(image);
    if (kept !== undefined) {
      const known = usable(kept, image, refused);
      if (known.length > 0 && this.#now() >= kept.renewAt) this.#renew(image);
      if (known.length > 0) return known;
    }
    // Nothing is kept, or the registry did not take it: it may have ended before its time.
    const answer = await this.#ask(image);
    signal?.throwIfAborted();
    return usable(answer, image, refused);
  }

  #kept(image: ImageName): Answer | undefined {
    const now = this.#now();
    for (const key of keysOf(image)) {
      const answer = this.#answers.get(key);
      if (answer !== undefined && now < answer.expires) return answer;
    }
    return undefined;
  }

  #renew(image: ImageName): void {
    this.#ask(image).catch((error: unknown) => {
      this.#options.log.warn("cannot renew credentials", {
        provider: this.#config.name,
        error: toNydusError(error, "renew").message,
      });
    });
  }

  /** Once for an image, however many wait for it. */
  #ask(image: ImageName): Promise<Answer> {
    const name = nameOf(image);
    let flight = this.#flights.get(name);
    if (flight === undefined) {
      flight = this.#run(image).finally(() => this.#flights.delete(name));
      this.#flights.set(name, flight);
    }
    return flight;
  }

  async #run(image: ImageName): Promise<Answer> {
    const { name, apiVersion, args } = this.#config;
    const action = `get credentials for "${image.registry}" from provider "${name}"`;
    const asked = this.#now();
    const { code, output } = await runHelper([join(this.#options.binDirectory, name), ...args], {
      input: JSON.stringify({ kind: "CredentialProviderRequest", apiVersion, image: nameOf(image) }),
      env: { ...(this.#options.env ?? process.env), ...this.#config.env },
      action,
    });
    if (code !== 0) throw new NydusError("denied", `Cannot ${action}: it failed with exit code ${code}`);
    const answer = parseJsonObject(new TextEncoder().encode(output), `the answer of provider "${name}"`);
    if (answer.kind !== "CredentialProviderResponse" || answer.apiVersion !== apiVersion)
      throw corrupt(`Cannot ${action}: its answer is not a CredentialProviderResponse of ${apiVersion}`);
    const auths = parseAuths(answer.auth);
    if (!isScope(answer.cacheKeyType))
      throw corrupt(`Cannot ${action}: its answer does not say what it is good for`);
    const life = lifeOf(answer, this.#config);
    const kept = { auths, renewAt: asked + life * RENEW_AFTER, expires: asked + life };
    if (life > 0) this.#keep(KEYS[answer.cacheKeyType](image), kept);
    return kept;
  }

  #keep(key: string, answer: Answer): void {
    const [oldest] = this.#answers.keys();
    if (this.#answers.size >= MAX_ANSWERS && oldest !== undefined) this.#answers.delete(oldest);
    this.#answers.delete(key);
    this.#answers.set(key, answer);
  }
}

function usable(
  { auths, expires }: Answer,
  image: ImageName,
  refused: readonly Credentials[],
): readonly Credentials[] {
  return matching([auths], image, refused).map((credentials) => ({ ...credentials, expires }));
}

function lifeOf({ cacheDuration }: Readonly<Record<string, unknown>>, config: ProviderConfig): number {
  const said = typeof cacheDuration === "string" ? parseDuration(cacheDuration) : undefined;
  return said ?? config.defaultCacheDuration;
}

/** What providers call an image: no tag, no digest. */
function nameOf({ registry, repository }: ImageName): string {
  return repository === "" ? registry : `${registry}/${repository}`;
}

const KEYS: Readonly<Record<Scope, (image: ImageName) => string>> = {
  Image: (image) => `image ${nameOf(image)}`,
  Registry: ({ registry }) => `registry ${registry}`,
  Global: () => "all",
};

function keysOf(image: ImageName): readonly string[] {
  return Object.values(KEYS).map((keyOf) => keyOf(image));
}

function isScope(value: unknown): value is Scope {
  return typeof value === "string" && Object.hasOwn(KEYS, value);
}
