/**
 * Writing blobs and manifests. A blob goes in two requests (POST for a place, PUT of the whole body), which every
 * registry takes. Small bodies are kept and sent again after a failure; of large ones only what can be repeated without
 * the body is.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import { abortable } from "../content/abortable.ts";
import { readAll, verified } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT } from "../oci/manifest.ts";
import type { RegistryClient } from "./client.ts";
import { type HttpRequest, type HttpResponse, WRITE } from "./http.ts";
import { retrying } from "./retry.ts";
import { statusError } from "./status.ts";

/** Bodies up to this size are held in memory until the registry has them. */
const KEPT_BODY = 4 * 2 ** 20;

interface PushOptions {
  readonly signal?: AbortSignal | undefined;
}

function withSignal({ signal }: PushOptions): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

export async function pushBlob(
  client: RegistryClient,
  descriptor: Descriptor,
  body: ReadableStream<Uint8Array>,
  options: PushOptions,
): Promise<void> {
  const checked = verified(abortable(body, options.signal), descriptor, "the source");
  if (descriptor.size <= KEPT_BODY) {
    const bytes = await readAll(checked, KEPT_BODY, `"${descriptor.digest}"`);
    await retrying(client.retry, options.signal, async () => {
      const place = await startUpload(client, descriptor, options);
      await putBlob(client, descriptor, place, bytes, options);
    });
    return;
  }
  try {
    const place = await retrying(client.retry, options.signal, () =>
      startUpload(client, descriptor, options),
    );
    await putStream(client, descriptor, place, checked, options);
  } catch (error) {
    if (!checked.locked) await checked.cancel(error).catch(() => {});
    throw error;
  }
}

/** Lets the registry take a blob from another of its repositories. False when it would rather have the bytes. */
export async function mountBlob(
  client: RegistryClient,
  descriptor: Descriptor,
  fromRepository: string,
  options: PushOptions,
): Promise<boolean> {
  const url = client.url("blobs/uploads/");
  url.searchParams.set("mount", descriptor.digest);
  url.searchParams.set("from", fromRepository);
  const action = pushAction(client, descriptor);
  const access = { write: true, alsoRead: fromRepository };
  const response = await client.send({ method: "POST", url, action, access, ...withSignal(options) });
  if (response.status !== 202 && response.status !== 201) {
    const error = await statusError(response, action);
    // Not being allowed to read there is only a reason to send the bytes.
    if (error.code === "unavailable") throw error;
    return false;
  }
  await response.discard();
  if (response.status === 202) await cancelUpload(client, uploadPlace(response, url, action), action);
  return response.status === 201;
}

function pushAction(client: RegistryClient, descriptor: Descriptor): string {
  return `push "${client.name}@${descriptor.digest}"`;
}

async function startUpload(
  client: RegistryClient,
  descriptor: Descriptor,
  options: PushOptions,
): Promise<URL> {
  const url = client.url("blobs/uploads/");
  const action = pushAction(client, descriptor);
  const headers = { "content-length": "0" };
  const request: HttpRequest = {
    method: "POST",
    url,
    action,
    access: WRITE,
    headers,
    ...withSignal(options),
  };
  const response = await client.send(request);
  if (response.status !== 202) throw await statusError(response, action);
  await response.discard();
  return uploadPlace(response, url, action);
}

function uploadPlace(response: HttpResponse, from: URL, action: string): URL {
  const location = response.headers.get("location");
  if (location !== null && URL.canParse(location, from)) return new URL(location, from);
  throw new NydusError("internal", `Cannot ${action}: the registry named no place to send it to`);
}

async function putBlob(
  client: RegistryClient,
  descriptor: Descriptor,
  place: URL,
  body: Uint8Array | ReadableStream<Uint8Array>,
  options: PushOptions,
): Promise<void> {
  const url = new URL(place);
  url.searchParams.set("digest", descriptor.digest);
  const action = pushAction(client, descriptor);
  const headers = {
    "content-type": "application/octet-stream",
    "content-length": String(descriptor.size),
  };
  const request: HttpRequest = {
    method: "PUT",
    url,
    action,
    access: WRITE,
    headers,
    body,
    ...withSignal(options),
  };
  const response = await client.send(request);
  if (response.status !== 201 && response.status !== 204) throw await statusError(response, action);
  await response.discard();
}

/** The body's own failure (wrong digest, source broke) is the one to report, not what HTTP makes of it. */
async function putStream(
  client: RegistryClient,
  descriptor: Descriptor,
  place: URL,
  body: ReadableStream<Uint8Array>,
  options: PushOptions,
): Promise<void> {
  const reader = body.getReader();
  let failure: { readonly error: unknown } | undefined;
  let left = false;
  const watched = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read().catch((error: unknown) => {
          failure = { error };
          throw error;
        });
        // A read that was waiting when the request was given up has nowhere to go.
        if (left) return;
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel(reason) {
        left = true;
        return reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
  try {
    await putBlob(client, descriptor, place, watched, options);
  } catch (error) {
    await reader.cancel(error).catch(() => {});
    await cancelUpload(client, place, pushAction(client, descriptor));
    throw failure === undefined ? error : failure.error;
  }
}

/** A courtesy: registries expire uploads by themselves too. */
async function cancelUpload(client: RegistryClient, url: URL, action: string): Promise<void> {
  try {
    const signal = AbortSignal.timeout(5_000);
    await (await client.send({ method: "DELETE", url, action, access: WRITE, signal })).discard();
  } catch {
    // The upload stays until the registry expires it.
  }
}

/** @param reference a tag or a digest */
/** @returns the subject that the registry has noted, if the manifest has one and the registry minds it */
export async function putManifest(
  client: RegistryClient,
  descriptor: Descriptor,
  bytes: Uint8Array,
  reference: string,
  options: PushOptions,
): Promise<string | undefined> {
  if (bytes.byteLength > MANIFEST_SIZE_LIMIT)
    throw corrupt(`Cannot push "${descriptor.digest}": it has more than ${MANIFEST_SIZE_LIMIT} bytes`);
  const separator = reference.includes(":") ? "@" : ":";
  const action = `push "${client.name}${separator}${reference}"`;
  return await retrying(client.retry, options.signal, async () => {
    const response = await client.send({
      method: "PUT",
      url: client.url(`manifests/${reference}`),
      action,
      access: WRITE,
      headers: { "content-type": descriptor.mediaType },
      body: bytes,
      ...withSignal(options),
    });
    if (response.status !== 201 && response.status !== 200) throw await statusError(response, action);
    await response.discard();
    return response.headers.get("oci-subject") ?? undefined;
  });
}
