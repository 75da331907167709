/**
 * From what people write to an image store: a reference or `docker://REF`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`,
 * `docker-archive:FILE[:TAG]`, `containerd:REF`.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { ContainerdClient, DEFAULT_ADDRESS, DEFAULT_NAMESPACE } from "../containerd/client.ts";
import { ContentStore } from "../containerd/content-store.ts";
import { LeasedContentStore } from "../containerd/leased-store.ts";
import type { ImageStore } from "../content/content.ts";
import { DockerArchive } from "../content/docker-archive.ts";
import { OciArchive, OciArchiveWriter } from "../content/oci-archive.ts";
import { OciLayout } from "../content/oci-layout.ts";
import { formatReference, parseReference } from "../oci/reference.ts";
import type { RegistryOptions } from "../registry/client.ts";
import { RegistryStore } from "../registry/store.ts";
import { LocalFirst } from "./local-first.ts";

export interface OpenOptions extends RegistryOptions {
  /** Make a local place that does not exist yet, and let an archive be written. */
  readonly create?: boolean;
  readonly signal?: AbortSignal;
}

export interface OpenedStore {
  readonly store: ImageStore;
  /** Tag or digest inside the store; undefined = its default. */
  readonly reference: string | undefined;
}

type Opener = (place: string, options: OpenOptions) => Promise<OpenedStore>;

const OPENERS = new Map<string, Opener>(
  Object.entries<Opener>({
    docker: async (place, options) => openRegistry(place.replace(/^\/\//, ""), options),
    oci: async (place, options) => {
      const { path, tag } = splitPlace(place);
      return { store: await OciLayout.open(path, options), reference: tag };
    },
    "oci-archive": async (place, options) => {
      const { path, tag } = splitPlace(place);
      const store = options.create === true ? OciArchiveWriter.create(path) : OciArchive.open(path);
      return { store: await store, reference: tag };
    },
    "docker-archive": async (place, options) => {
      const { path, tag } = splitPlace(place);
      if (options.create === true)
        throw new NydusError(
          "unsupported",
          `Cannot write "docker-archive:${path}": write an oci-archive instead`,
        );
      return { store: await DockerArchive.open(path), reference: tag };
    },
    containerd: openContainerd,
  }),
);

/** Ways of writing a place that other tools know and this function does not serve. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([["dir", "a plain directory is no image"]]);

/** @throws usage, and what opening the place throws */
export async function openStore(location: string, options: OpenOptions = {}): Promise<OpenedStore> {
  const [, scheme = "", place = ""] = /^([a-z][a-z-]*):(.*)$/.exec(location) ?? [];
  const opener = OPENERS.get(scheme);
  // "name:tag" looks like a scheme too; only `docker:` needs its slashes to tell the two apart.
  if (opener !== undefined && (scheme !== "docker" || place.startsWith("//"))) {
    if (place !== "" && place !== "//") return opener(place, options);
    throw new NydusError("usage", `Cannot open "${location}": it names no place`);
  }
  const reason = ELSEWHERE.get(scheme);
  if (reason !== undefined && /[/]/.test(place))
    throw new NydusError("usage", `Cannot open "${location}": ${reason}`);
  return openRegistry(location, options);
}

function openRegistry(text: string, options: OpenOptions): OpenedStore {
  const reference = parseReference(text);
  return {
    store: new RegistryStore(reference, options),
    reference: reference.digest ?? reference.tag,
  };
}

async function openContainerd(place: string, options: OpenOptions): Promise<OpenedStore> {
  const reference = parseReference(place);
  const client = contentClient(options);
  const opened = { reference: formatReference(reference) };
  if (options.create === true) return { store: await LeasedContentStore.open(client, options), ...opened };
  return {
    store: new LocalFirst(new ContentStore(client), new RegistryStore(reference, options)),
    ...opened,
  };
}

/**
 * A registry's image that containerd may have, in part or whole.
 *
 * @param client stays open: many images share a connection
 */
export function openLocalFirst(text: string, options: OpenOptions, client: ContainerdClient): ImageStore {
  return new LocalFirst(new ContentStore(client), openRegistry(text, options).store, { shared: true });
}

function contentClient({ containerd }: OpenOptions): ContainerdClient {
  return new ContainerdClient(containerd ?? { address: DEFAULT_ADDRESS, namespace: DEFAULT_NAMESPACE });
}

/** As skopeo does it: the path ends at the first colon, so that a tag may be a whole image name. */
function splitPlace(place: string): { path: string; tag?: string } {
  const colon = place.indexOf(":");
  if (colon < 0) return { path: place };
  const tag = place.slice(colon + 1);
  return { path: place.slice(0, colon), ...(tag === "" ? {} : { tag }) };
}
