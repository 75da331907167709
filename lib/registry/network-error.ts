/** Why a host could not be asked, in words. @module */
import { NydusError } from "../base/error.ts";

/** For the codes of Bun's fetch and of sockets; the other network errors keep their own. */
const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "refused the connection",
  ECONNRESET: "broke off the connection",
  ENOTFOUND: "is not a known host",
  EPROTO: "does not speak TLS",
  ETIMEDOUT: "did not answer",
  EHOSTUNREACH: "cannot be reached",
  ENETUNREACH: "cannot be reached",
};
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ISSUER/;

export function networkError(cause: unknown, action: string, host: string): NydusError {
  if (cause instanceof NydusError) return cause;
  const code =
    typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
      ? cause.code
      : "";
  if (CERTIFICATE.test(code)) {
    const state = `the certificate of ${host} is not trusted (${code}); --insecure accepts it`;
    return new NydusError("denied", `Cannot ${action}: ${state}`, { cause });
  }
  // Whatever broke off an answer by HTTP/2; before the answer, HTTP/1.1 was asked too.
  const reason = code.startsWith("HTTP2") ? REASONS.ECONNRESET : REASONS[code];
  const words = reason ?? `cannot be reached${code === "" ? "" : ` (${code})`}`;
  return new NydusError("unavailable", `Cannot ${action}: ${host} ${words}`, { cause });
}
