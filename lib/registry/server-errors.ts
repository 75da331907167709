/** Errors of the embedded registry, in the form that the distribution spec gives them. @module */

import { type Digest, isDigest } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { isRepository } from "../oci/reference.ts";

export type FaultCode =
  | "BLOB_UNKNOWN"
  | "BLOB_UPLOAD_INVALID"
  | "BLOB_UPLOAD_UNKNOWN"
  | "DIGEST_INVALID"
  | "MANIFEST_BLOB_UNKNOWN"
  | "MANIFEST_INVALID"
  | "MANIFEST_UNKNOWN"
  | "NAME_INVALID"
  | "NAME_UNKNOWN"
  | "SIZE_INVALID"
  | "UNKNOWN";

/** An answer other than the one hoped for. */
export class RegistryFault extends Error {
  override readonly name = "RegistryFault";
  readonly status: number;
  readonly code: FaultCode;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    code: FaultCode,
    message: string,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export function errorAnswer(error: unknown): Response {
  const fault = error instanceof RegistryFault ? error : faultOf(error);
  const body = { errors: [{ code: fault.code, message: fault.message }] };
  return Response.json(body, { status: fault.status, headers: fault.headers });
}

function faultOf(error: unknown): RegistryFault {
  if (!(error instanceof NydusError)) return new RegistryFault(500, "UNKNOWN", "internal error");
  if (error.code === "no_space") return new RegistryFault(507, "UNKNOWN", "the disk is full");
  if (error.code === "busy") return new RegistryFault(409, "BLOB_UPLOAD_INVALID", error.message);
  return new RegistryFault(500, "UNKNOWN", error.message);
}

/** The repository's name in a request's path. */
export function checkedName(name: string | undefined): string {
  if (name !== undefined && isRepository(name)) return name;
  throw new RegistryFault(400, "NAME_INVALID", "not a repository name");
}

export function checkedDigest(text: string | undefined): Digest {
  if (text !== undefined && isDigest(text)) return text;
  throw new RegistryFault(400, "DIGEST_INVALID", "not sha256:<64 hex digits>");
}
