/**
 * From what people write to an image store: a reference or `docker://REF`, `oci:DIR[:TAG]`.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import type { ImageStore } from "../content/content.ts";
import { OciLayout } from "../content/oci-layout.ts";

export interface OpenOptions {
  readonly plainHttp?: boolean;
  readonly insecure?: boolean;
  readonly credentials?: { readonly username: string; readonly password: string };
  /** Make a local place that does not exist yet. */
  readonly create?: boolean;
  readonly signal?: AbortSignal;
}

export interface OpenedStore {
  readonly store: ImageStore;
  /** Tag or digest inside the store; undefined = its default. */
  readonly reference: string | undefined;
}

export async function openStore(location: string, options: OpenOptions = {}): Promise<OpenedStore> {
  const [, scheme, rest = ""] = /^(oci):(.*)$/.exec(location) ?? [];
  if (scheme === "oci") {
    const [, directory = "", tag] = /^(.*?)(?::([\w][\w.-]{0,127}))?$/.exec(rest) ?? [];
    return { store: await OciLayout.open(directory, options), reference: tag };
  }
  throw new NydusError("unsupported", `Cannot open "${location}": registries are not wired yet`);
}
