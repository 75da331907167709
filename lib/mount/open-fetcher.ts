/**
 * Opens the place that a mount's blobs come from.
 *
 * @module
 */

import { ContainerdClient, type ContainerdOptions } from "../containerd/client.ts";
import { BlobDirectory } from "../content/blob-directory.ts";
import type { Fetcher } from "../content/content.ts";
import { openLocalFirst, openStore } from "../image/open.ts";
import type { CredentialSource } from "../registry/credentials.ts";
import { Http2Hosts } from "../registry/http2-hosts.ts";
import type { ImageSource } from "./mount-request.ts";

/** Our own kind of location beside those of images: "blobs:DIR". */
const BLOBS = "blobs:";

/** Somebody waits for the bytes and would get an error: only the time limit ends the attempts. */
const READING = { attempts: Number.POSITIVE_INFINITY, refusals: 4 };

export function blobsLocation(directory: string): string {
  return `${BLOBS}${directory}`;
}

/** @param credentials for sources that come without any */
export function fetcherOpener(
  credentials: CredentialSource,
): (source: ImageSource) => Promise<Fetcher & Partial<AsyncDisposable>> {
  // What one mount learns of a registry's host, the others know.
  const http2 = new Http2Hosts();
  // One connection for all mounts, whatever their namespace.
  const clients = new Map<string, ContainerdClient>();
  const clientFor = ({ address, namespace }: ContainerdOptions): ContainerdClient => {
    const client = clients.get(address) ?? new ContainerdClient({ address, namespace });
    clients.set(address, client);
    return client.inNamespace(namespace);
  };
  return async (source) => {
    if (source.location.startsWith(BLOBS)) return new BlobDirectory(source.location.slice(BLOBS.length));
    const options = { credentials, ...source, retry: READING, http2 };
    if (source.localFirst === true && source.containerd !== undefined)
      return openLocalFirst(source.location, options, clientFor(source.containerd));
    const { store } = await openStore(source.location, options);
    return store;
  };
}
