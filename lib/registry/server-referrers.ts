/**
 * What refers to what at the embedded registry: one small file a subject of a repository, in the form in which it is
 * answered.
 *
 * @module
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Digest, digestHex, digestOf } from "../base/digest.ts";
import { isCode, toNydusError } from "../base/error.ts";
import { writeFileAtomically } from "../content/files.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { encodeJson } from "../oci/json.ts";
import { type Document, parseDocument } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";

/** Of one subject; the oldest go. An answer stays smaller than a manifest may be. */
const MOST = 1000;

export class Referrers {
  readonly #directory: string;
  /** One write after another: each is of a whole list. */
  #writes: Promise<void> = Promise.resolve();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** @returns the manifest's subject, if it has one */
  async note(name: string, descriptor: Descriptor, document: Document): Promise<Digest | undefined> {
    if (document.kind === "index" || document.manifest.subject === undefined) return undefined;
    const { subject, config, annotations } = document.manifest;
    const entry: Descriptor = {
      ...descriptor,
      artifactType: document.manifest.artifactType ?? config.mediaType,
      ...(annotations === undefined ? {} : { annotations }),
    };
    const write = this.#writes.then(async () => {
      const known = await this.#read(name, subject.digest);
      const others = known.filter(({ digest }) => digest !== entry.digest);
      await mkdir(this.#directory, { recursive: true });
      const list = encodeJson(indexOf([...others, entry].slice(-MOST)));
      await writeFileAtomically(this.#path(name, subject.digest), list);
    });
    this.#writes = write.catch(() => {});
    await write;
    return subject.digest;
  }

  async answer(name: string, subject: Digest, artifactType: string | undefined): Promise<Response> {
    const known = await this.#read(name, subject);
    const wanted = known.filter((entry) => artifactType === undefined || entry.artifactType === artifactType);
    const filters = artifactType === undefined ? {} : { "oci-filters-applied": "artifactType" };
    return Response.json(indexOf(wanted), { headers: { "content-type": MEDIA.ociIndex, ...filters } });
  }

  async #read(name: string, subject: Digest): Promise<readonly Descriptor[]> {
    const path = this.#path(name, subject);
    try {
      const document = parseDocument(await readFile(path), MEDIA.ociIndex, `"${path}"`);
      return document.kind === "index" ? document.index.manifests : [];
    } catch (error) {
      const known = toNydusError(error, `read "${path}"`);
      if (isCode(known, "not_found")) return [];
      throw known;
    }
  }

  /** A repository's name may be longer than a file's. */
  #path(name: string, subject: Digest): string {
    return join(this.#directory, `${digestHex(digestOf(Buffer.from(`${name}\n${subject}`)))}.json`);
  }
}

function indexOf(manifests: readonly Descriptor[]): object {
  return { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests };
}
