/**
 * Whether an image can be had as a mount needs it: its manifest with these credentials, and parts of its blobs.
 *
 * @module
 */
import { isCode } from "../base/error.ts";
import { loadImage } from "../image/load.ts";
import { openStore } from "../image/open.ts";
import { ANNOTATION } from "../oci/media-types.ts";
import type { RegistryAccess } from "../registry/access.ts";
import { type Finding, problem, stateOf, warning, well } from "./finding.ts";

/** Enough to see that a range is a range. */
const PART = 4096;

export async function checkRegistry(image: string, access: RegistryAccess): Promise<Finding[]> {
  const subject = `image ${image}`;
  try {
    const { store, reference } = await openStore(image, access);
    await using _store = store;
    const { layers } = await loadImage(store, reference);
    const lazy = layers.filter(
      ({ descriptor }) => descriptor.annotations?.[ANNOTATION.nydusBlob] !== undefined,
    );
    const part = lazy.find(({ descriptor }) => descriptor.size > PART)?.descriptor;
    const kind =
      lazy.length > 0
        ? well(subject, `a Nydus image of ${layers.length} layers`)
        : warning(
            subject,
            `an ordinary image of ${layers.length} layers`,
            `nydus-tool convert ${image} TARGET makes it lazy`,
          );
    if (part === undefined) return [kind];
    const start = performance.now();
    const range = { start: part.size - PART, end: part.size };
    await new Response(await store.fetch(part, { range, partsOnly: true })).arrayBuffer();
    const ms = Math.round(performance.now() - start);
    return [kind, well(`${subject}, a part of a blob`, `arrives in ${ms} ms`)];
  } catch (error) {
    return [problem(subject, stateOf(error), adviceFor(error))];
  }
}

function adviceFor(error: unknown): string {
  if (isCode(error, "denied")) return "docker login, as root: credentials come from ~/.docker/config.json";
  if (isCode(error, "not_found")) return "is the name right, and is it for this platform?";
  if (isCode(error, "unsupported"))
    return "use a registry that answers ranged requests, or a mirror that does (--hosts-dir)";
  if (isCode(error, "unavailable"))
    return "look at the network, the registry, and --hosts-dir, --proxy, --plain-http and --insecure";
  return "nydus-tool check says more";
}
