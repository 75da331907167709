/**
 * Finds out which image a bootstrap layer belongs to when no label says so (containerd's transfer service sends labels
 * only if told to): the image in containerd whose config's diff ids give the layer's chain ID. The label
 * `containerd.io/distribution.source` on the blob would not do, because it drops the registry's port.
 *
 * @module
 */
import { type Digest, isDigest } from "../base/digest.ts";
import { isCode } from "../base/error.ts";
import { chainIds } from "../containerd/chain-id.ts";
import type { ContainerdClient } from "../containerd/client.ts";
import { ContentStore } from "../containerd/content-store.ts";
import { Namespaces } from "../containerd/gen/namespaces_pb.ts";
import { ImageRecords } from "../containerd/images.ts";
import { readBlob } from "../content/read.ts";
import { CONFIG_SIZE_LIMIT, parseConfig } from "../oci/config.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT, parseDocument } from "../oci/manifest.ts";
import { parseReference } from "../oci/reference.ts";
import { LABEL } from "./labels.ts";
import type { Snapshot } from "./metastore.ts";

/** The chain ID of a layer: its label, or the end of the name that containerd gave it ("default/7/sha256:..."). */
export function chainIdOf(snapshot: Pick<Snapshot, "name" | "labels">): Digest | undefined {
  const candidates = [
    snapshot.labels[LABEL.target] ?? "",
    snapshot.name.slice(snapshot.name.lastIndexOf("/") + 1),
  ];
  return candidates.find((text) => isDigest(text));
}

/** The namespace that a key starts with ("default/7/..."), as containerd writes them. */
export function namespaceOf(key: string): string | undefined {
  return /^([^/]+)\/\d+\//.exec(key)?.[1];
}

/** References of images that have the layer, those by tag first. */
export async function findReferences(
  client: ContainerdClient,
  chainId: Digest,
  namespace: string | undefined,
): Promise<readonly string[]> {
  const namespaces = namespace === undefined ? await listNamespaces(client) : [namespace];
  const found: string[] = [];
  for (const name of namespaces) {
    const scoped = client.inNamespace(name);
    const store = new ContentStore(scoped);
    for (const image of await new ImageRecords(scoped).list()) {
      if (isPullable(image.name) && (await hasLayer(store, image.target, chainId))) found.push(image.name);
    }
  }
  return found.sort((a, b) => Number(a.includes("@")) - Number(b.includes("@")));
}

async function listNamespaces(client: ContainerdClient): Promise<readonly string[]> {
  const { namespaces } = await client.call("list namespaces", () => client.service(Namespaces).list({}));
  return namespaces.map(({ name }) => name);
}

/** CRI also keeps a record named by config digest for each image. */
function isPullable(name: string): boolean {
  if (isDigest(name)) return false;
  try {
    parseReference(name);
    return true;
  } catch {
    return false;
  }
}

/** Blobs that are missing (other platforms) or damaged have no say. */
async function hasLayer(store: ContentStore, target: Descriptor, chainId: Digest): Promise<boolean> {
  try {
    const what = "the manifest";
    const bytes = await readBlob(store, target, { limit: MANIFEST_SIZE_LIMIT, what });
    const document = parseDocument(bytes, target.mediaType, `${what} "${target.digest}"`);
    if (document.kind === "index") {
      for (const manifest of document.index.manifests)
        if (await hasLayer(store, manifest, chainId)) return true;
      return false;
    }
    const config = document.manifest.config;
    const json = await readBlob(store, config, { limit: CONFIG_SIZE_LIMIT, what: "the config" });
    return chainIds(parseConfig(json, `the config "${config.digest}"`).rootfs.diff_ids).includes(chainId);
  } catch (error) {
    if (isCode(error, "not_found") || isCode(error, "corrupt") || isCode(error, "unsupported")) return false;
    throw error;
  }
}
