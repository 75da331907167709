/** Whom we trust and who we are, in the terms of Bun's fetch and of node:tls. @module */
import { rootCertificates } from "node:tls";

export interface TlsOptions {
  /** Do not verify certificates; undefined = as `insecure` says. */
  readonly skipVerify?: boolean;
  /** Certificates to trust besides the usual ones (PEM). */
  readonly ca?: readonly string[];
  /** Who we are (PEM). */
  readonly certificate?: { readonly cert: string; readonly key: string };
}

export interface ClientTls {
  readonly rejectUnauthorized?: boolean;
  readonly ca?: string[];
  readonly cert?: string;
  readonly key?: string;
}

/** Undefined = nothing out of the ordinary. */
export function clientTls(options: {
  readonly insecure?: boolean;
  readonly tls?: TlsOptions;
}): ClientTls | undefined {
  const { skipVerify = options.insecure ?? false, ca, certificate } = options.tls ?? {};
  if (!skipVerify && ca === undefined && certificate === undefined) return undefined;
  return {
    ...(skipVerify ? { rejectUnauthorized: false } : {}),
    // A list replaces the usual ones, which token services and object stores may still need.
    ...(ca === undefined ? {} : { ca: [...rootCertificates, ...ca] }),
    ...certificate,
  };
}
