/**
 * Opens the place that a mount's blobs come from.
 *
 * @module
 */
import type { Fetcher } from "../content/content.ts";
import { openStore } from "../image/open.ts";
import { BlobDirectory } from "./blob-directory.ts";
import type { ImageSource } from "./mount-request.ts";

/** Our own kind of location beside those of images: "blobs:DIR". */
const BLOBS = "blobs:";

export function blobsLocation(directory: string): string {
  return `${BLOBS}${directory}`;
}

export async function openFetcher(source: ImageSource): Promise<Fetcher & Partial<AsyncDisposable>> {
  if (source.location.startsWith(BLOBS)) return new BlobDirectory(source.location.slice(BLOBS.length));
  const { store } = await openStore(source.location, source);
  return store;
}
