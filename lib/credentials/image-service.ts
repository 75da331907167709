/**
 * Kubernetes' image service, passed on to containerd: a kubelet that is told to pull through the snapshotter's socket
 * (`--image-service-endpoint`) shows the credentials of each pull, which are needed again while containers read. Calls
 * and answers go through as they are.
 *
 * @module
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { UniversalServerRequest, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { type AuthConfig, PullImageRequestSchema } from "../containerd/gen/cri_pb.ts";
import { Http2Client } from "../containerd/grpc/client.ts";
import type { Fallback } from "../containerd/grpc/server.ts";
import { parseReference } from "../oci/reference.ts";
import { type Credentials, credentialsOfEntry } from "../registry/credentials.ts";
import { matchesImage } from "./match-image.ts";
import type { PullSecrets } from "./pull-secrets.ts";

export interface ImageServiceOptions {
  /** Socket of the image service that answers: containerd's. */
  readonly address: string;
  readonly secrets: PullSecrets;
  readonly log: Logger;
}

export interface ImageService extends Disposable {
  readonly fallback: Fallback;
}

/** Older kubelets ask for v1alpha2, whose messages are the same. */
const SERVICE = /^\/runtime\.v1(?:alpha2)?\.ImageService\//;
const PULL = /\/PullImage$/;
/** A pull request is a few hundred bytes. */
const REQUEST_LIMIT = 1024 * 1024;
/** In front of a gRPC message: whether it is compressed, and its length. */
const PREFIX = 5;
const OK = "0";
const UNAVAILABLE = "14";

export function imageService(options: ImageServiceOptions): ImageService {
  const client = new Http2Client(options.address);
  return {
    fallback: (request) => {
      const { pathname } = new URL(request.url);
      if (!SERVICE.test(pathname)) return undefined;
      return answered(
        PULL.test(pathname) ? pull(client, request, options) : forward(client, request),
        options,
      );
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

type Request = Pick<UniversalServerRequest, "url" | "method" | "header" | "signal"> & {
  readonly body: AsyncIterable<Uint8Array>;
};

function forward(
  client: Http2Client,
  request: UniversalServerRequest | Request,
): Promise<UniversalServerResponse> {
  const { url, method, header, signal } = request;
  const body = request.body as AsyncIterable<Uint8Array>;
  return client.request({ url, method, header, signal, body });
}

/** The credentials are good for others at once: a lazy layer may want them during the pull. */
async function pull(
  client: Http2Client,
  request: UniversalServerRequest,
  options: ImageServiceOptions,
): Promise<UniversalServerResponse> {
  const bytes = await readRequest(request.body as AsyncIterable<Uint8Array>);
  const undo = remember(bytes, options);
  const response = await forward(client, { ...request, body: once(bytes) });
  const { trailer = new Headers() } = response;
  return { ...response, trailer, body: watched(response, trailer, undo) };
}

async function* watched(
  { body, header }: UniversalServerResponse,
  trailer: Headers,
  undo: () => void,
): AsyncGenerator<Uint8Array> {
  let worked = false;
  try {
    yield* body ?? [];
    worked = (trailer.get("grpc-status") ?? new Headers(header).get("grpc-status")) === OK;
  } finally {
    if (!worked) undo();
  }
}

/** @returns what forgets them again: credentials that pulled nothing must not be in the way of others */
function remember(bytes: Uint8Array, { secrets, log }: ImageServiceOptions): () => void {
  const nothing = (): void => {};
  try {
    const { image, auth } = fromBinary(PullImageRequestSchema, messageOf(bytes));
    const name = image?.image ?? "";
    const credentials = auth === undefined ? undefined : credentialsFor(name, auth);
    if (credentials === undefined) return nothing;
    const isNew = secrets.remember("pull", name, credentials);
    return isNew ? () => secrets.forget("pull", name, credentials) : nothing;
  } catch {
    // No reason to keep the kubelet from its pull.
    log.warn("cannot read a pull request");
    return nothing;
  }
}

/** As containerd understands it: a server address limits them to that registry. */
function credentialsFor(image: string, auth: AuthConfig): Credentials | undefined {
  const { registry } = parseReference(image);
  const { username, password, identityToken, registryToken, serverAddress } = auth;
  if (serverAddress !== "" && !matchesImage(serverAddress, { registry, repository: "" })) return undefined;
  if (username !== "") return { username, password };
  if (identityToken !== "") return { identityToken };
  return credentialsOfEntry({ auth: auth.auth }) ?? (registryToken === "" ? undefined : { registryToken });
}

function messageOf(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 0) throw new Error("Cannot read a pull request: it is compressed");
  return bytes.subarray(PREFIX);
}

async function readRequest(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body) {
    size += piece.byteLength;
    if (size > REQUEST_LIMIT) throw new Error("Cannot pass a pull request on: it is too large");
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** A containerd that is not there is an answer, not a broken connection. */
async function answered(
  response: Promise<UniversalServerResponse>,
  { address, log }: ImageServiceOptions,
): Promise<UniversalServerResponse> {
  try {
    return await response;
  } catch (error) {
    const { message } = toNydusError(error, `reach the image service at "${address}"`);
    log.warn("cannot pass a call on", { error: message });
    const header = new Headers({
      "content-type": "application/grpc",
      "grpc-status": UNAVAILABLE,
      "grpc-message": encodeURIComponent(message),
    });
    return { status: 200, header };
  }
}
