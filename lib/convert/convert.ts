/**
 * From what people write to a conversion: opens source and target, and tells a directory, an image and an image that is
 * Nydus already apart.
 *
 * @module
 */

import { NydusError } from "../base/error.ts";
import type { ImageStore } from "../content/content.ts";
import { copyImage } from "../image/copy.ts";
import { type Image, isNydusImage, loadImage } from "../image/load.ts";
import { openStore } from "../image/open.ts";
import type { Descriptor, Platform } from "../oci/descriptor.ts";
import type { RegistryAccess } from "../registry/access.ts";
import { announceReferrer, assertSubject, mergeIntoIndex, subjectOf } from "./beside.ts";
import { Dictionaries } from "./dictionaries.ts";
import { convertDirectory } from "./directory.ts";
import { type ConvertOptions, convertImage } from "./image.ts";
import { assertFormat } from "./merge.ts";
import { DEFAULT_COMPRESSOR, type PackFormat } from "./packer.ts";
import { convertPlatforms } from "./platforms.ts";
import type { Target } from "./publish.ts";
import { type ConvertReport, secondsSince } from "./report.ts";

const DIRECTORY = "dir:";
/** Whatever has none of these is a registry's. */
const LOCAL = /^(?:oci|oci-archive|docker-archive|containerd|dir):/;

/** Where nobody says otherwise. */
const DEFAULTS = { compressor: DEFAULT_COMPRESSOR, chunkSize: 2 ** 20, digester: "sha256" } as const;

/** What images must have in common to share chunks. */
type SharedFormat = Pick<PackFormat, "compressor" | "chunkSize" | "digester" | "fsVersion">;

export interface ConvertRequest
  extends Omit<ConvertOptions, "dictionaries" | keyof SharedFormat>,
    RegistryAccess,
    // By default as the chunk dictionaries have it, else zstd, 1 MiB, SHA-256 and RAFS v6.
    Partial<SharedFormat> {
  /** Nydus images or bootstrap files whose chunks are not stored again. */
  readonly chunkDicts?: readonly string[];
  /** As `openStore` takes it, or "dir:PATH". */
  readonly source: string;
  readonly target: string;
  /** Several make an index of several; without any, it is this machine's. */
  readonly platforms?: "all" | readonly Platform[];
  /** The target's name is to stand for an index with the source's images and the converted one. */
  readonly mergePlatform?: boolean;
  /** The converted image is to refer to the source, which is in the target's repository. */
  readonly withReferrer?: boolean;
}

/** The stores are closed when the work is done, so it is awaited here: closing an archive writes it. */
export async function convert(request: ConvertRequest): Promise<ConvertReport> {
  const { source, target } = request;
  await using dictionaries = await openDictionaries(request);
  const format = { ...DEFAULTS, ...given(request), ...dictionaries?.format, ...overTars(request) };
  assertTogether({ ...request, ...format });
  const options: ConvertOptions = { ...request, ...format, dictionaries };
  assertFormat(options);
  if (source.startsWith(DIRECTORY)) {
    await using to = await open(request, target, true);
    return await convertDirectory(source.slice(DIRECTORY.length), to, options);
  }
  await using from = await open(request, source, false);
  const [platform, ...others] = request.platforms === "all" ? [] : (request.platforms ?? []);
  if (request.platforms === "all" || others.length > 0)
    return await convertSeveral(from, request, request.platforms ?? [], options);
  const image = await loadImage(from.store, from.reference, {
    ...request,
    ...(platform && { platform }),
    ...(request.mergePlatform === true ? { prefer: "plain" } : {}),
  });
  await using to = await open(request, target, true);
  if (isNydusImage(image.manifest)) return await copyNydus(from.store, image, to, request);
  return await convertBeside(from, image, to, { ...request, ...options });
}

/** How the target names its source. */
function recorded(source: string): { reference?: string } {
  return LOCAL.test(source) ? {} : { reference: source.replace(/^docker:\/\//, "") };
}

/** And makes it known beside its source, where that is asked for. */
async function convertBeside(
  from: Target,
  image: Image,
  target: Target,
  options: ConvertOptions & Pick<ConvertRequest, "source" | "mergePlatform" | "withReferrer">,
): Promise<ConvertReport> {
  const { mergePlatform = false, withReferrer = false, signal } = options;
  const source = { store: from.store, image, ...recorded(options.source) };
  const either = signal === undefined ? {} : { signal };
  const subject = withReferrer ? subjectOf(image.descriptor) : undefined;
  if (subject !== undefined) await assertSubject(target, subject, either);
  const published = async (converted: Descriptor): Promise<Descriptor> => {
    if (subject !== undefined) await announceReferrer(target, subject, converted, either);
    if (!mergePlatform) return converted;
    const root = await from.store.resolve(from.reference, either);
    return await mergeIntoIndex({ ...source, root }, target, converted, either);
  };
  const untagged = mergePlatform;
  return await convertImage(source, { ...target, untagged }, { ...options, subject, published });
}

async function convertSeveral(
  from: Target,
  request: ConvertRequest,
  platforms: "all" | readonly Platform[],
  options: ConvertOptions,
): Promise<ConvertReport> {
  if (request.mergePlatform === true || request.withReferrer === true)
    throw new NydusError("usage", "Cannot put several platforms beside their sources: convert one at a time");
  const { store, reference } = from;
  const root = await store.resolve(reference, request.signal === undefined ? {} : { signal: request.signal });
  await using to = await open(request, request.target, true);
  return await convertPlatforms({ store, root, ...recorded(request.source) }, to, platforms, options);
}

/** @throws usage for options that say opposite things */
function assertTogether(request: ConvertRequest): void {
  const { reference = false, tarfs = false, fsVersion, chunkDicts = [], batchSize, encrypt } = request;
  const refuse = (what: string): never => {
    throw new NydusError("usage", `Cannot convert: ${what}`);
  };
  if (reference && tarfs) refuse("--oci-ref and --tarfs are two ways to leave the data as it is");
  const leaves = reference ? "--oci-ref" : tarfs ? "--tarfs" : undefined;
  if (leaves !== undefined && fsVersion === 5) refuse(`${leaves} is not for --fs-version 5`);
  if (tarfs && request.source.startsWith(DIRECTORY)) refuse("--tarfs is for images, whose layers are tars");
  for (const [flag, given] of [
    ["--chunk-dict", chunkDicts.length > 0],
    ["--batch-size", batchSize !== undefined],
    ["--encrypt", encrypt === true],
  ] as const) {
    if (given && leaves !== undefined) refuse(`${leaves} leaves the data as it is, ${flag} does not`);
    if (given && fsVersion === 5 && flag !== "--chunk-dict") refuse(`${flag} is not for --fs-version 5`);
  }
}

/** Nothing is compressed there, and nothing but a layer's own digest vouches for its files. */
function overTars({ tarfs = false, compressor, digester }: ConvertRequest): Partial<SharedFormat> {
  if (!tarfs) return {};
  if (compressor !== undefined || digester !== undefined)
    throw new NydusError("usage", "Cannot convert: --tarfs makes no chunks to be compressed or hashed");
  return { compressor: "none", digester: "sha256" };
}

function given({ compressor, chunkSize, digester, fsVersion }: ConvertRequest): Partial<SharedFormat> {
  return {
    ...(compressor && { compressor }),
    ...(chunkSize === undefined ? {} : { chunkSize }),
    ...(digester && { digester }),
    ...(fsVersion && { fsVersion }),
  };
}

async function openDictionaries(request: ConvertRequest): Promise<Dictionaries | undefined> {
  const { chunkDicts = [], platforms } = request;
  if (chunkDicts.length === 0) return undefined;
  const [platform] = platforms === "all" ? [] : (platforms ?? []);
  return await Dictionaries.open(chunkDicts, { ...request, ...(platform && { platform }) }, given(request));
}

async function open(
  request: ConvertRequest,
  location: string,
  create: boolean,
): Promise<Target & AsyncDisposable> {
  const { store, reference } = await openStore(location, { ...request, create });
  return { store, reference, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
}

/** An image that is Nydus already is not converted again: its parts go over as they are. */
async function copyNydus(
  from: ImageStore,
  { descriptor, manifest }: Image,
  target: Target,
  request: ConvertRequest,
): Promise<ConvertReport> {
  const start = performance.now();
  const copied = await copyImage(from, descriptor, target.store, target.reference, request);
  const size = manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  return {
    sourceDigest: descriptor.digest,
    targetDigest: descriptor.digest,
    copied: true,
    layers: [],
    sourceSize: size,
    targetSize: size,
    pushedSize: copied.bytes,
    seconds: secondsSince(start),
  };
}
