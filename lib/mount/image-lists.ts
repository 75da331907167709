/**
 * A mount's part in lists that travel with images: it takes the one that is there, and gives its own when it is told to.
 *
 * @module
 */
import type { Trace } from "../blob/trace.ts";
import type { Fetcher } from "../content/content.ts";
import { fetchList, pushList } from "../image/kept-list.ts";
import { manifestOf } from "../image/list-of.ts";
import { registryOf } from "../image/local-first.ts";
import { parseReference } from "../oci/reference.ts";
import type { MountRequest } from "./mount-request.ts";
import type { TracedMount } from "./traces.ts";

export type ImageLists = Pick<TracedMount, "keptList" | "keepList">;

/**
 * @param fetcher of the mount's blobs; only registries keep lists
 * @param early ask for the list at once, so that it is there when the image is mounted
 */
export function imageLists(
  { source, image, prefetch }: MountRequest,
  fetcher: Fetcher,
  { early }: { readonly early: boolean },
): ImageLists {
  const registry = registryOf(fetcher);
  if (registry === undefined) return {};
  const { digest, tag } = parseReference(source.location.replace(/^(docker:\/\/|containerd:)/, ""));
  const reference = image ?? digest ?? tag;
  const ask = async (): Promise<Trace | undefined> =>
    await fetchList(registry, image ?? (await manifestOf(registry, reference)).digest);
  const asked = early ? ask() : undefined;
  // It may fail before anybody waits for it.
  asked?.catch(() => {});
  const keepList = async (trace: Trace): Promise<void> => {
    const subject = await manifestOf(registry, reference);
    await pushList(registry, subject, trace, { created: new Date() });
  };
  return { keptList: () => asked ?? ask(), ...(prefetch?.pushList === true ? { keepList } : {}) };
}
