/**
 * Credentials that came with a pull and that nobody can be asked for again: from labels of snapshots, and from the
 * kubelet's calls to the image service. In memory only; a process that survives keeps a copy for one that does not.
 *
 * @module
 */
import { parseReference } from "../oci/reference.ts";
import {
  type CredentialSource,
  type Credentials,
  parseCredentials,
  sameCredentials,
} from "../registry/credentials.ts";

/** Labels are asked before what the kubelet sent. */
const ORIGINS = ["label", "pull"] as const;
export type Origin = (typeof ORIGINS)[number];

interface Secret {
  readonly origin: Origin;
  readonly credentials: Credentials;
}

export interface SavedSecret extends Secret {
  /** "registry/repository". */
  readonly image: string;
}

/** Pods of different owners may pull one image with different secrets. */
const MAX_PER_IMAGE = 4;
/** The image that was pulled longest ago is forgotten first. */
const MAX_IMAGES = 4096;

export class PullSecrets {
  readonly #secrets = new Map<string, readonly Secret[]>();
  readonly #inherited = Promise.withResolvers<void>();
  #changed: () => void = () => {};

  /** @param heir whether nothing is known before the first `import`: until then, who asks waits */
  constructor({ heir = false } = {}) {
    if (!heir) this.#inherited.resolve();
  }

  /** Called after each change; one listener. */
  onChange(listener: () => void): void {
    this.#changed = listener;
  }

  /** @returns false when it is known already. @throws usage for a name that is no reference */
  remember(origin: Origin, reference: string, credentials: Credentials): boolean {
    const image = imageOf(reference);
    const known = this.#secrets.get(image) ?? [];
    const isSame = (secret: Secret): boolean =>
      secret.origin === origin && sameCredentials(secret.credentials, credentials);
    const isNew = !known.some(isSame);
    const others = known.filter((secret) => !isSame(secret)).slice(0, MAX_PER_IMAGE - 1);
    this.#put(image, [{ origin, credentials }, ...others]);
    if (isNew) this.#changed();
    return isNew;
  }

  /** What was only tried. */
  forget(origin: Origin, reference: string, credentials: Credentials): void {
    const image = imageOf(reference);
    const left = (this.#secrets.get(image) ?? []).filter(
      (secret) => secret.origin !== origin || !sameCredentials(secret.credentials, credentials),
    );
    if (left.length === 0) this.#secrets.delete(image);
    else this.#secrets.set(image, left);
    this.#changed();
  }

  #put(image: string, secrets: readonly Secret[]): void {
    this.#secrets.delete(image);
    const [oldest] = this.#secrets.keys();
    if (this.#secrets.size >= MAX_IMAGES && oldest !== undefined) this.#secrets.delete(oldest);
    this.#secrets.set(image, secrets);
  }

  readonly source: CredentialSource = async (registry, { repository, refused = [] }) => {
    await this.#inherited.promise;
    const known = this.#secrets.get(`${registry}/${repository}`) ?? [];
    for (const wanted of ORIGINS) {
      const found = known.find(
        ({ origin, credentials }) =>
          origin === wanted && !refused.some((other) => sameCredentials(other, credentials)),
      );
      if (found !== undefined) return found.credentials;
    }
    return undefined;
  };

  /** For the other process's memory. */
  export(): readonly SavedSecret[] {
    return [...this.#secrets].flatMap(([image, secrets]) => secrets.map((secret) => ({ image, ...secret })));
  }

  /** Adds what another process kept; what is known here is newer. */
  import(saved: unknown): void {
    this.#inherited.resolve();
    for (const value of Array.isArray(saved) ? saved : []) {
      const { image, origin, credentials } = (
        typeof value === "object" && value !== null ? value : {}
      ) as Record<string, unknown>;
      const parsed = parseCredentials(credentials);
      const from = ORIGINS.find((name) => name === origin);
      if (typeof image !== "string" || parsed === undefined || from === undefined) continue;
      const known = this.#secrets.get(image) ?? [];
      if (
        known.length < MAX_PER_IMAGE &&
        !known.some((secret) => sameCredentials(secret.credentials, parsed))
      )
        this.#put(image, [...known, { origin: from, credentials: parsed }]);
    }
  }
}

function imageOf(reference: string): string {
  const { registry, repository } = parseReference(reference);
  return `${registry}/${repository}`;
}
