/**
 * Credentials by patterns of images, as Kubernetes' secrets and the kubelet's providers give them.
 *
 * @module
 */
import { type Credentials, credentialsOfEntry, sameCredentials } from "../registry/credentials.ts";
import { type ImageName, matchesImage, mostTellingFirst } from "./match-image.ts";

export type Auths = ReadonlyMap<string, Credentials>;

/** The "auths" of a docker configuration; entries that hold no secret are left out. */
export function parseAuths(value: unknown): Auths {
  if (typeof value !== "object" || value === null) return new Map();
  const entries = Object.entries(value).flatMap(([pattern, entry]: [string, unknown]) => {
    const credentials = credentialsOfEntry(entry);
    return credentials === undefined ? [] : [[pattern, credentials] as const];
  });
  return new Map(entries);
}

/** All that are good for the image, the most telling first, without those that were refused. */
export function matching(
  auths: readonly Auths[],
  image: ImageName,
  refused: readonly Credentials[] = [],
): readonly Credentials[] {
  return auths
    .flatMap((some) => [...some])
    .filter(([pattern]) => matchesImage(pattern, image))
    .toSorted(([a], [b]) => mostTellingFirst(a, b))
    .map(([, credentials]) => credentials)
    .filter((credentials) => !refused.some((known) => sameCredentials(known, credentials)));
}
