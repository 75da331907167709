/**
 * A Nydus image to be looked into: its checked bootstrap as a file tree, and the data of its files, of which nothing
 * but the chunks that are read is fetched.
 *
 * @module
 */
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ChunkHasher, chunkHasher } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { ChunkPlaces, readChunks } from "../blob/chunk-content.ts";
import { isOverTars, loadChunkMaps, withPackedLayers } from "../blob/load-chunk-maps.ts";
import type { ByteRange, Fetcher } from "../content/content.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { checkImage, chunkAddress, openImage, type RafsImage, readTree } from "../rafs/image.ts";
import type { ChunkRef, Directory, RegularFile } from "../tree/tree.ts";
import type { Image } from "./load.ts";
import { type ImageLocation, type LocatedImage, locateImage } from "./location.ts";

export interface ReadOptions {
  /** In place of, and besides, the maps of the image's own blobs. */
  readonly maps?: readonly ChunkMap[];
  readonly signal?: AbortSignal;
}

export class NydusImage implements AsyncDisposable {
  /** As it was asked for. */
  readonly name: string;
  /** Manifest and config; undefined for a bootstrap file. */
  readonly image: Image | undefined;
  readonly bootstrap: RafsImage;
  readonly #located: LocatedImage;
  /** Of the image's chunks. */
  readonly hasher: ChunkHasher;
  #root: Directory | undefined;
  #maps: readonly ChunkMap[] | undefined;
  /** For layers of tars that cannot be entered in the middle. */
  #scratch: string | undefined;

  private constructor(located: LocatedImage, bootstrap: RafsImage, hasher: ChunkHasher) {
    this.name = located.name;
    this.image = located.image;
    this.bootstrap = bootstrap;
    this.#located = located;
    this.hasher = hasher;
  }

  /**
   * Reads manifest, config and bootstrap, and checks the bootstrap completely. No file data is fetched.
   *
   * @throws not_found, unsupported when it is no Nydus image, corrupt when its bootstrap breaks a rule
   */
  static async open(request: ImageLocation): Promise<NydusImage> {
    const located = await locateImage(request);
    try {
      const [first, ...more] = await checkImage(located.bootstrap);
      if (first === undefined) return await NydusImage.trusting(located);
      const others = more.length > 0 ? ` (and ${more.length} more problems)` : "";
      const where = first.path === "" ? "" : `${first.path}: `;
      throw corrupt(`Cannot trust the bootstrap of "${located.name}": ${where}${first.message}${others}`);
    } catch (error) {
      await located[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** For a bootstrap that the caller has checked. */
  static async trusting(located: LocatedImage): Promise<NydusImage> {
    const bootstrap = openImage(located.bootstrap);
    return new NydusImage(located, bootstrap, await chunkHasher(bootstrap.superblock.digester));
  }

  /** The file tree. A hard link is one node under several names. */
  get root(): Directory {
    this.#root ??= readTree(this.bootstrap);
    return this.#root;
  }

  /**
   * Bytes [start, end) of a file, by default all of them, in pieces of at most one chunk; each is verified against its
   * digest. Only the chunks that the range touches are fetched.
   *
   * @throws corrupt when the range is not inside the file or data is damaged, and what the source throws
   */
  async *read(
    file: RegularFile,
    range: ByteRange = { start: 0, end: file.size },
    options: ReadOptions = {},
  ): AsyncGenerator<Uint8Array, undefined> {
    const { start, end } = range;
    if (!(0 <= start && start <= end && end <= file.size))
      throw new NydusError(
        "usage",
        `Cannot read bytes ${start} to ${end} of a file: it has ${file.size} bytes`,
      );
    if (start === end) return;
    const { chunkSize } = this.bootstrap.superblock;
    const first = Math.floor(start / chunkSize);
    let at = first * chunkSize;
    for await (const data of this.chunks(file.chunks.slice(first, Math.ceil(end / chunkSize)), options)) {
      yield data.subarray(Math.max(0, start - at), Math.min(data.byteLength, end - at));
      at += data.byteLength;
    }
  }

  /** Verified content of chunks, in the order given, with few requests. */
  async *chunks(
    wanted: Iterable<ChunkRef>,
    options: ReadOptions = {},
  ): AsyncGenerator<Uint8Array, undefined> {
    const { signal, maps = [] } = options;
    const own = await this.chunkMaps(signal);
    const places = new ChunkPlaces([...own, ...maps], (chunk) => chunkAddress(this.bootstrap, chunk));
    const source = { fetcher: this.fetcher, ...(signal === undefined ? {} : { signal }) };
    yield* readChunks(places.findAll(wanted), this.hasher, source);
  }

  /** The chunks that the image uses of each blob, in the order of `bootstrap.blobs`. */
  async chunkMaps(signal?: AbortSignal): Promise<readonly ChunkMap[]> {
    if (this.#maps !== undefined) return this.#maps;
    // Most maps need no blob, so that nobody has to say where blobs are.
    const fetcher: Fetcher = {
      fetch: (...request) => this.#source.fetch(...request),
      sizeOf: async (...request) => this.#source.sizeOf?.(...request),
    };
    const { directory, allowUnverified = false } = this.#located;
    if (isOverTars(this.bootstrap)) this.#scratch ??= mkdtempSync(join(tmpdir(), "nydus-tool-"));
    const keep = this.#scratch;
    const source = {
      fetcher,
      allowUnverified,
      ...(directory === undefined ? {} : { directory }),
      ...(keep === undefined ? {} : { keep }),
      ...(signal === undefined ? {} : { signal }),
    };
    this.#maps ??= await loadChunkMaps(this.bootstrap, source);
    return this.#maps;
  }

  /** Where data blobs come from. @throws usage when nobody said where a bootstrap file's blobs are */
  get fetcher(): Fetcher {
    const scratch = this.#scratch;
    return scratch === undefined ? this.#source : withPackedLayers(this.bootstrap, scratch, this.#source);
  }

  get #source(): Fetcher {
    const { fetcher } = this.#located;
    if (fetcher !== undefined) return fetcher;
    throw new NydusError(
      "usage",
      `Cannot read data of bootstrap "${this.name}": say where its blobs are with --blobs or --backend`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#scratch !== undefined) await rm(this.#scratch, { recursive: true, force: true });
    await this.#located[Symbol.asyncDispose]();
  }
}
