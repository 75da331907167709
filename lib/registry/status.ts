/** From an HTTP status to an error with a meaning. @module */

import { type ErrorCode, NydusError } from "../base/error.ts";
import { readAll } from "../content/verified.ts";
import type { HttpResponse } from "./http.ts";

/** Error bodies are a few hundred bytes of JSON. */
const ERROR_BODY_LIMIT = 64 * 1024;

/** The error for an answer that was not hoped for; reads what the registry says about it. */
export async function statusError(response: HttpResponse, action: string): Promise<NydusError> {
  const said = await registryCode(response);
  const retryAfter = parseRetryAfter(response.headers.get("retry-after"));
  return new NydusError(
    codeOf(response.status),
    `Cannot ${action}: the registry answered ${response.status}${said === "" ? "" : ` (${said})`}`,
    retryAfter === undefined ? {} : { retryAfter },
  );
}

function codeOf(status: number): ErrorCode {
  if (status === 404 || status === 410) return "not_found";
  if (status === 401 || status === 403 || status === 407) return "denied";
  if (status === 408 || status === 425 || status === 429 || status >= 500) return "unavailable";
  if (status === 416) return "corrupt";
  return "internal";
}

/** Only the code of `{"errors":[{"code": ...}]}`: messages may quote URLs with signatures, or anything else. */
async function registryCode(response: HttpResponse): Promise<string> {
  try {
    const bytes = await readAll(response.body, ERROR_BODY_LIMIT, "an error");
    const { errors } = JSON.parse(new TextDecoder().decode(bytes)) as { errors?: { code?: unknown }[] };
    const code = errors?.[0]?.code;
    return typeof code === "string" && /^[A-Z_]{1,40}$/.test(code) ? code : "";
  } catch {
    return "";
  } finally {
    await response.discard();
  }
}

/** Seconds, from either form of Retry-After. */
export function parseRetryAfter(value: string | null, now = Date.now()): number | undefined {
  if (value === null) return undefined;
  if (/^\d{1,6}$/.test(value.trim())) return Number(value);
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil((date - now) / 1000));
}
