/**
 * A mount's part in lists that travel with images: it takes the one that is there, and gives its own when it is told to.
 *
 * @module
 */
import type { Fetcher } from "../content/content.ts";
import { fetchList, pushList } from "../image/kept-list.ts";
import { manifestOf } from "../image/list-of.ts";
import { parseReference } from "../oci/reference.ts";
import { RegistryStore } from "../registry/store.ts";
import type { MountRequest } from "./mount-request.ts";
import type { TracedMount } from "./traces.ts";

/** @param fetcher of the mount's blobs; only registries keep lists */
export function imageLists(
  { source, image, prefetch }: MountRequest,
  fetcher: Fetcher,
): Pick<TracedMount, "keptList" | "keepList"> {
  if (!(fetcher instanceof RegistryStore)) return {};
  const { digest, tag } = parseReference(source.location.replace(/^docker:\/\//, ""));
  const reference = image ?? digest ?? tag;
  return {
    keptList: async (signal) => {
      const subject = image ?? (await manifestOf(fetcher, reference, { signal })).digest;
      return await fetchList(fetcher, subject, { signal });
    },
    ...(prefetch?.pushList === true
      ? {
          keepList: async (trace) => {
            const subject = await manifestOf(fetcher, reference);
            await pushList(fetcher, subject, trace, { created: new Date() });
          },
        }
      : {}),
  };
}
