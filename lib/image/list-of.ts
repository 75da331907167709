/**
 * From what people write to the list that is kept beside an image.
 *
 * @module
 */
import type { Digest } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { Trace } from "../blob/trace.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { isManifestType } from "../oci/media-types.ts";
import type { RegistryStore } from "../registry/store.ts";
import { fetchList, pushList } from "./kept-list.ts";
import { type LoadOptions, loadImage } from "./load.ts";
import { registryOf } from "./local-first.ts";
import { type OpenOptions, openStore } from "./open.ts";

export interface ListRequest extends Omit<OpenOptions, "create">, Pick<LoadOptions, "platform"> {
  /** The image, as `openStore` takes it. */
  readonly location: string;
  /** Digest of its manifest, where it is known. */
  readonly image?: Digest;
  readonly signal?: AbortSignal;
}

/** Undefined when the image has none, or is in no registry. @throws what the registry throws */
export async function listOf(request: ListRequest): Promise<Trace | undefined> {
  const { store, reference } = await openStore(request.location, request);
  await using _store = store;
  const registry = registryOf(store);
  if (registry === undefined) return undefined;
  const image = request.image ?? (await manifestOf(registry, reference, request)).digest;
  return await fetchList(registry, image, signalOf(request));
}

/** @returns false when the image has this list already */
export async function keepListOf(request: ListRequest, trace: Trace, created: Date): Promise<boolean> {
  const { store, reference } = await openStore(request.location, request);
  await using _store = store;
  const registry = registryOf(store);
  if (registry === undefined)
    throw new NydusError(
      "unsupported",
      `Cannot keep a list beside "${request.location}": only registries keep what refers to an image`,
    );
  const image = await manifestOf(registry, request.image ?? reference, request);
  return await pushList(registry, image, trace, { created, ...signalOf(request) });
}

/** What a list refers to: of this machine's image when the reference names several. */
export async function manifestOf(
  store: RegistryStore,
  reference: string | undefined,
  request: LoadOptions = {},
): Promise<Descriptor> {
  const root = await store.resolve(reference, signalOf(request));
  if (isManifestType(root.mediaType)) return root;
  return (await loadImage(store, reference, request)).descriptor;
}

function signalOf({ signal }: LoadOptions): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
