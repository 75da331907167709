/**
 * One error type for the whole program, born with its meaning at the boundary that knows it and translated only at
 * the edges: process (exit code), kernel (errno), containerd (gRPC code).
 *
 * Message grammar: `Cannot <verb> "<thing>": <state>`, then after a semicolon what to do next, if there is something.
 * No secrets and no query strings in messages.
 *
 * @module
 */

interface Meaning {
  /** Process exit code, listed by `nydus-tool --help`. */
  readonly exit: number;
  /** Linux errno, positive. */
  readonly errno: number;
  /** gRPC status code. */
  readonly grpc: number;
  readonly summary: string;
}

/** One row a meaning; each edge reads only its own column. */
export const MEANINGS = {
  internal: { exit: 1, errno: 5, grpc: 13, summary: "failed" },
  usage: { exit: 2, errno: 22, grpc: 3, summary: "wrong usage" },
  not_found: { exit: 10, errno: 2, grpc: 5, summary: "something named does not exist" },
  corrupt: { exit: 11, errno: 5, grpc: 15, summary: "data is damaged, malformed or fails its digest" },
  unavailable: {
    exit: 12,
    errno: 5,
    grpc: 14,
    summary: "a registry or daemon could not be reached; try again",
  },
  denied: { exit: 13, errno: 13, grpc: 7, summary: "credentials or permissions are missing" },
  unsupported: {
    exit: 14,
    errno: 95,
    grpc: 12,
    summary: "this kernel, image kind or option is not supported",
  },
  exists: { exit: 15, errno: 17, grpc: 6, summary: "something already exists" },
  no_space: { exit: 16, errno: 28, grpc: 8, summary: "a disk is full" },
  busy: { exit: 17, errno: 16, grpc: 9, summary: "something is in use" },
  cancelled: { exit: 130, errno: 4, grpc: 1, summary: "interrupted" },
} as const satisfies Record<string, Meaning>;

export type ErrorCode = keyof typeof MEANINGS;

export interface NydusErrorOptions extends ErrorOptions {
  /** Seconds a source asked us to wait before trying again (HTTP Retry-After). */
  readonly retryAfter?: number;
  /** The source gave nothing for as long as it may: another attempt would only wait as long again. */
  readonly outOfTime?: boolean;
}

export class NydusError extends Error {
  override readonly name = "NydusError";
  readonly code: ErrorCode;
  readonly retryAfter: number | undefined;
  readonly outOfTime: boolean;

  constructor(code: ErrorCode, message: string, options?: NydusErrorOptions) {
    super(message, options);
    this.code = code;
    this.retryAfter = options?.retryAfter;
    this.outOfTime = options?.outOfTime === true;
  }
}

export function isCode(error: unknown, code: ErrorCode): error is NydusError {
  return error instanceof NydusError && error.code === code;
}

/** Whether it makes sense to try the same again. */
export function mayPass(error: unknown): boolean {
  return isCode(error, "unavailable") && !error.outOfTime;
}

/** Shorthand for the most frequent kind: bytes that must not be trusted. */
export function corrupt(message: string, options?: ErrorOptions): NydusError {
  return new NydusError("corrupt", message, options);
}

const ERRNO_CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "not_found",
  EEXIST: "exists",
  EACCES: "denied",
  EPERM: "denied",
  ENOSPC: "no_space",
  EDQUOT: "no_space",
  EBUSY: "busy",
  ENOSYS: "unsupported",
  EOPNOTSUPP: "unsupported",
  ECONNREFUSED: "unavailable",
  ECONNRESET: "unavailable",
  ETIMEDOUT: "unavailable",
  EPIPE: "unavailable",
};

/** Give any thrown value a meaning. `action` completes "Cannot ...", for example `read "/etc/hosts"`. */
export function toNydusError(error: unknown, action: string): NydusError {
  if (error instanceof NydusError) return error;
  const cause = error instanceof Error ? error : new Error(String(error));
  if (cause.name === "AbortError")
    return new NydusError("cancelled", `Cannot ${action}: interrupted`, { cause });
  const system = "code" in cause && typeof cause.code === "string" ? cause.code : "";
  return new NydusError(ERRNO_CODES[system] ?? "internal", `Cannot ${action}: ${cause.message}`, { cause });
}
