/**
 * Sources of credentials, one after another: the first that has some for an image gives them.
 *
 * @module
 */
import { toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { type CredentialSource, sameCredentials } from "../registry/credentials.ts";

export interface NamedSource {
  /** For the log. */
  readonly name: string;
  readonly source: CredentialSource;
}

/** One that fails is passed over, and the log says so: the others may know, or nobody need. */
export function credentialChain(sources: readonly NamedSource[], log: Logger): CredentialSource {
  return async (registry, request) => {
    const { refused = [], signal } = request;
    for (const { name, source } of sources) {
      try {
        const found = await source(registry, request);
        if (found !== undefined && !refused.some((known) => sameCredentials(known, found))) return found;
      } catch (error) {
        signal?.throwIfAborted();
        log.warn("a source of credentials failed", {
          source: name,
          registry,
          error: toNydusError(error, `ask ${name}`).message,
        });
      }
    }
    return undefined;
  };
}
