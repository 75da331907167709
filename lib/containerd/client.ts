/**
 * The connection to containerd: gRPC over a unix socket, one namespace. It is made when the first call needs it and
 * again after containerd went away, so nydus-tool may start first.
 *
 * @module
 */
import type { DescService } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createTransport } from "@connectrpc/connect/protocol-grpc";
import { type ErrorCode, NydusError, toNydusError } from "../base/error.ts";
import { Http2Client } from "./grpc/client.ts";

export const DEFAULT_ADDRESS = "/run/containerd/containerd.sock";
export const DEFAULT_NAMESPACE = "default";

export interface ContainerdOptions {
  /** Path of the socket. */
  readonly address: string;
  readonly namespace: string;
}

/** Metadata keys that containerd reads from each call. */
const NAMESPACE_HEADER = "containerd-namespace";
const LEASE_HEADER = "containerd-lease";

export class ContainerdClient implements AsyncDisposable {
  readonly address: string;
  readonly namespace: string;
  readonly #http: Http2Client;
  readonly #lease: string | undefined;

  constructor(options: ContainerdOptions, shared?: { http: Http2Client; lease?: string }) {
    this.address = options.address;
    this.namespace = options.namespace;
    this.#http = shared?.http ?? new Http2Client(options.address);
    this.#lease = shared?.lease;
  }

  /** The same connection, for another namespace. */
  inNamespace(namespace: string): ContainerdClient {
    return new ContainerdClient({ address: this.address, namespace }, { http: this.#http });
  }

  /** The same connection and namespace; whatever these calls make belongs to the lease. */
  underLease(lease: string): ContainerdClient {
    return new ContainerdClient(this, { http: this.#http, lease });
  }

  service<S extends DescService>(service: S): Client<S> {
    const headers: Interceptor = (next) => (request) => {
      request.header.set(NAMESPACE_HEADER, this.namespace);
      if (this.#lease !== undefined) request.header.set(LEASE_HEADER, this.#lease);
      return next(request);
    };
    const transport = createTransport({
      httpClient: (request) => this.#http.request(request),
      baseUrl: BASE_URL,
      useBinaryFormat: true,
      interceptors: [headers],
      acceptCompression: [],
      sendCompression: null,
      compressMinBytes: 0,
      readMaxBytes: MESSAGE_LIMIT,
      writeMaxBytes: MESSAGE_LIMIT,
    });
    return createClient(service, transport);
  }

  /** Run one call (or several that make one step); `action` completes "Cannot ...". */
  async call<T>(action: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw fromGrpc(error, `${action} in containerd at "${this.address}"`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#http[Symbol.dispose]();
  }
}

/** HTTP/2 wants an authority; the socket decides who answers. */
const BASE_URL = "http://localhost";
/** containerd's own limit for one message. */
const MESSAGE_LIMIT = 16 * 2 ** 20;

const CODES: Readonly<Partial<Record<Code, ErrorCode>>> = {
  [Code.Canceled]: "cancelled",
  [Code.InvalidArgument]: "usage",
  [Code.DeadlineExceeded]: "unavailable",
  [Code.NotFound]: "not_found",
  [Code.AlreadyExists]: "exists",
  [Code.PermissionDenied]: "denied",
  [Code.Unauthenticated]: "denied",
  [Code.ResourceExhausted]: "no_space",
  [Code.FailedPrecondition]: "busy",
  [Code.Unimplemented]: "unsupported",
  [Code.OutOfRange]: "usage",
  [Code.Unavailable]: "unavailable",
  [Code.DataLoss]: "corrupt",
};

/** A missing socket is not a missing image: connecting has meanings of its own. */
const CONNECTING: Readonly<Record<string, { code: ErrorCode; state: string }>> = {
  ENOENT: { code: "unavailable", state: "there is no such socket; is containerd running?" },
  ECONNREFUSED: { code: "unavailable", state: "nobody listens there; is containerd running?" },
  EACCES: { code: "denied", state: "this user may not connect" },
};

function systemCode(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : "";
}

/** Give a failed call a meaning. */
function fromGrpc(error: unknown, action: string): NydusError {
  if (error instanceof NydusError) return error;
  const refused =
    CONNECTING[systemCode(error)] ??
    (error instanceof ConnectError ? CONNECTING[systemCode(error.cause)] : undefined);
  if (refused !== undefined)
    return new NydusError(refused.code, `Cannot ${action}: ${refused.state}`, { cause: error });
  if (!(error instanceof ConnectError)) return toNydusError(error, action);
  const state = error.rawMessage === "" ? Code[error.code] : error.rawMessage;
  return new NydusError(CODES[error.code] ?? "internal", `Cannot ${action}: ${state}`, { cause: error });
}
