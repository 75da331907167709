/** Manifests and tags at the embedded registry. @module */

import type { Context } from "hono";
import { type Digest, digestOf, isDigest } from "../base/digest.ts";
import { isCode } from "../base/error.ts";
import type { OciLayout } from "../content/oci-layout.ts";
import { readAll, streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type Document, MANIFEST_SIZE_LIMIT, parseDocument } from "../oci/manifest.ts";
import { isTag } from "../oci/reference.ts";
import { checkedName, RegistryFault } from "./server-errors.ts";
import type { Referrers } from "./server-referrers.ts";

export class RegistryManifests {
  readonly #layout: OciLayout;
  readonly #referrers: Referrers;

  constructor(layout: OciLayout, referrers: Referrers) {
    this.#layout = layout;
    this.#referrers = referrers;
  }

  async get(context: Context): Promise<Response> {
    const name = checkedName(context.req.param("name"));
    const digest = await this.#find(name, context.req.param("reference") ?? "");
    const file = Bun.file(this.#layout.blobPath(digest));
    if (!(await file.exists()) || file.size > MANIFEST_SIZE_LIMIT) throw unknown();
    const bytes = await file.bytes();
    const headers = {
      "content-type": typeOf(bytes),
      "content-length": String(bytes.byteLength),
      "docker-content-digest": digest,
      etag: `"${digest}"`,
    };
    return new Response(context.req.method === "HEAD" ? null : bytes, { headers });
  }

  async put(context: Context): Promise<Response> {
    const name = checkedName(context.req.param("name"));
    const reference = context.req.param("reference") ?? "";
    const bytes = await readAll(
      context.req.raw.body ?? streamOf(new Uint8Array()),
      MANIFEST_SIZE_LIMIT,
      "the manifest",
    ).catch((error: unknown) => {
      throw isCode(error, "corrupt") ? new RegistryFault(413, "MANIFEST_INVALID", error.message) : error;
    });
    const digest = digestOf(bytes);
    if (isDigest(reference) ? reference !== digest : !isTag(reference))
      throw new RegistryFault(400, "DIGEST_INVALID", `the manifest has digest ${digest}`);
    const document = parsed(bytes, context.req.header("content-type") ?? "");
    await this.#checkParts(document);
    const { mediaType } = document.kind === "index" ? document.index : document.manifest;
    const descriptor: Descriptor = { mediaType, digest, size: bytes.byteLength };
    await this.#layout.push(descriptor, streamOf(bytes));
    if (!isDigest(reference)) await this.#layout.tag(descriptor, `${name}:${reference}`);
    const subject = await this.#referrers.note(name, descriptor, document);
    return new Response(null, {
      status: 201,
      headers: {
        location: `/v2/${name}/manifests/${digest}`,
        "docker-content-digest": digest,
        "content-length": "0",
        ...(subject === undefined ? {} : { "oci-subject": subject }),
      },
    });
  }

  /** What refers to a manifest, whether that one is here or not. */
  async referrers(context: Context): Promise<Response> {
    const name = checkedName(context.req.param("name"));
    const digest = context.req.param("digest") ?? "";
    if (!isDigest(digest)) throw new RegistryFault(400, "DIGEST_INVALID", "that is no digest");
    return await this.#referrers.answer(name, digest, context.req.query("artifactType"));
  }

  /** With `n` and `last` for pages. */
  async tags(context: Context): Promise<Response> {
    const name = checkedName(context.req.param("name"));
    const all = (await this.#layout.tags())
      .flatMap((full) => (full.startsWith(`${name}:`) ? [full.slice(name.length + 1)] : []))
      .sort();
    if (all.length === 0) throw new RegistryFault(404, "NAME_UNKNOWN", "no such repository");
    const last = context.req.query("last") ?? "";
    const asked = Number(context.req.query("n") ?? all.length);
    const count = Number.isSafeInteger(asked) && asked >= 0 ? asked : all.length;
    const rest = all.filter((tag) => tag > last);
    const page = rest.slice(0, count);
    const more =
      page.length > 0 && rest.length > page.length
        ? { link: `</v2/${name}/tags/list?n=${count}&last=${page.at(-1)}>; rel="next"` }
        : {};
    return Response.json({ name, tags: page }, { headers: more });
  }

  async catalog(): Promise<Response> {
    const names = (await this.#layout.tags()).map((full) => full.slice(0, full.lastIndexOf(":")));
    return Response.json({ repositories: [...new Set(names)].sort() });
  }

  async #find(name: string, reference: string): Promise<Digest> {
    if (isDigest(reference)) return reference;
    if (!isTag(reference)) throw unknown();
    try {
      return (await this.#layout.resolve(`${name}:${reference}`)).digest;
    } catch (error) {
      throw isCode(error, "not_found") ? unknown() : error;
    }
  }

  /** A manifest in a registry promises that its parts can be had. */
  async #checkParts(document: Document): Promise<void> {
    const parts =
      document.kind === "index"
        ? document.index.manifests
        : [document.manifest.config, ...document.manifest.layers];
    for (const part of parts) {
      if (await Bun.file(this.#layout.blobPath(part.digest)).exists()) continue;
      throw new RegistryFault(400, "MANIFEST_BLOB_UNKNOWN", `${part.digest} has not been pushed`);
    }
  }
}

function unknown(): RegistryFault {
  return new RegistryFault(404, "MANIFEST_UNKNOWN", "no such manifest");
}

function parsed(bytes: Uint8Array, contentType: string): Document {
  try {
    return parseDocument(bytes, contentType.split(";")[0]?.trim() ?? "", "the manifest");
  } catch (error) {
    throw new RegistryFault(400, "MANIFEST_INVALID", error instanceof Error ? error.message : "invalid");
  }
}

/** The content says it; blobs that are no manifests are not served as such. */
function typeOf(bytes: Uint8Array): string {
  try {
    const document = parseDocument(bytes, "", "the manifest");
    return document.kind === "index" ? document.index.mediaType : document.manifest.mediaType;
  } catch {
    throw unknown();
  }
}
