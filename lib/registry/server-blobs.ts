/** Blobs at the embedded registry: reading by range, and uploads in one piece or many. @module */

import type { Context } from "hono";
import { type Digest, isDigest } from "../base/digest.ts";
import { isCode } from "../base/error.ts";
import type { OciLayout } from "../content/oci-layout.ts";
import { streamOf } from "../content/verified.ts";
import { parseRangeHeader } from "./range-header.ts";
import { checkedDigest, checkedName, RegistryFault } from "./server-errors.ts";
import type { Upload, Uploads } from "./uploads.ts";

export class RegistryBlobs {
  readonly #layout: OciLayout;
  readonly #uploads: Uploads;

  constructor(layout: OciLayout, uploads: Uploads) {
    this.#layout = layout;
    this.#uploads = uploads;
  }

  /** Not verified: the client has the digest and checks for itself. */
  async get(context: Context): Promise<Response> {
    checkedName(context.req.param("name"));
    const digest = checkedDigest(context.req.param("digest"));
    const file = Bun.file(this.#layout.blobPath(digest));
    if (!(await file.exists())) throw new RegistryFault(404, "BLOB_UNKNOWN", "no such blob");
    const { size } = file;
    const headers = {
      "accept-ranges": "bytes",
      "content-type": "application/octet-stream",
      "docker-content-digest": digest,
      etag: `"${digest}"`,
    };
    const range = parseRangeHeader(context.req.header("range"), size);
    if (range === "unsatisfiable")
      throw new RegistryFault(416, "SIZE_INVALID", "the range is past the end", {
        "content-range": `bytes */${size}`,
      });
    const { start, end } = range ?? { start: 0, end: size };
    return new Response(context.req.method === "HEAD" ? null : file.slice(start, end), {
      status: range === undefined ? 200 : 206,
      headers: {
        ...headers,
        "content-length": String(end - start),
        ...(range === undefined ? {} : { "content-range": `bytes ${start}-${end - 1}/${size}` }),
      },
    });
  }

  /** POST: an upload of its own, a whole blob at once (`?digest=`), or one that is here already (`?mount=`). */
  async start(context: Context): Promise<Response> {
    const name = checkedName(context.req.param("name"));
    const mounted = context.req.query("mount");
    if (mounted !== undefined && isDigest(mounted) && (await this.#exists(mounted)))
      return stored(name, mounted);
    const upload = await this.#uploads.start();
    const digest = context.req.query("digest");
    if (digest === undefined) return accepted(202, name, upload);
    await this.#append(upload, context);
    return this.#commit(name, upload, checkedDigest(digest));
  }

  progress(context: Context): Response {
    return accepted(204, checkedName(context.req.param("name")), this.#upload(context));
  }

  async append(context: Context): Promise<Response> {
    const name = checkedName(context.req.param("name"));
    const upload = this.#upload(context);
    // "start-end", of this piece; without it the piece is the next one.
    const start = /^(?:bytes )?(\d+)-\d+$/.exec(context.req.header("content-range") ?? "")?.[1];
    if (start !== undefined && Number(start) !== upload.size)
      throw new RegistryFault(416, "BLOB_UPLOAD_INVALID", "the piece is out of order", placeOf(name, upload));
    await this.#append(upload, context);
    return accepted(202, name, upload);
  }

  async finish(context: Context): Promise<Response> {
    const name = checkedName(context.req.param("name"));
    const upload = this.#upload(context);
    const digest = checkedDigest(context.req.query("digest"));
    await this.#append(upload, context);
    return this.#commit(name, upload, digest);
  }

  async cancel(context: Context): Promise<Response> {
    await this.#uploads.end(this.#upload(context));
    return new Response(null, { status: 204 });
  }

  #upload(context: Context): Upload {
    const upload = this.#uploads.get(context.req.param("id") ?? "");
    if (upload !== undefined) return upload;
    throw new RegistryFault(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
  }

  async #append(upload: Upload, context: Context): Promise<void> {
    const { body } = context.req.raw;
    await upload.append(body ?? streamOf(new Uint8Array()));
  }

  async #commit(name: string, upload: Upload, digest: Digest): Promise<Response> {
    try {
      await upload.commit(digest, this.#layout.blobPath(digest));
    } catch (error) {
      if (isCode(error, "corrupt")) throw new RegistryFault(400, "DIGEST_INVALID", error.message);
      throw error;
    } finally {
      await this.#uploads.end(upload);
    }
    return stored(name, digest);
  }

  async #exists(digest: Digest): Promise<boolean> {
    return Bun.file(this.#layout.blobPath(digest)).exists();
  }
}

function placeOf(name: string, upload: Upload): Record<string, string> {
  return {
    location: `/v2/${name}/blobs/uploads/${upload.id}`,
    "docker-upload-uuid": upload.id,
    // Inclusive, so it cannot say "nothing yet"; 0-0 is what every registry answers.
    range: `0-${Math.max(0, upload.size - 1)}`,
    "content-length": "0",
  };
}

function accepted(status: 202 | 204, name: string, upload: Upload): Response {
  return new Response(null, { status, headers: placeOf(name, upload) });
}

function stored(name: string, digest: Digest): Response {
  return new Response(null, {
    status: 201,
    headers: {
      location: `/v2/${name}/blobs/${digest}`,
      "docker-content-digest": digest,
      "content-length": "0",
    },
  });
}
