/**
 * GET requests to a Kubernetes API server.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { NydusError, toNydusError } from "../base/error.ts";
import { type ExecCredential, runExecPlugin } from "./exec-plugin.ts";
import type { KubeAccess } from "./kubeconfig.ts";

/** A login is given up this much before its end (milliseconds). */
const MARGIN_MS = 10_000;

export class KubeClient {
  /** Read anew when a login failed: the file may have been replaced. */
  readonly #read: () => KubeAccess;
  #access: KubeAccess | undefined;
  #exec: ExecCredential | undefined;

  constructor(read: () => KubeAccess) {
    this.#read = read;
  }

  /** @throws denied, unavailable; no body and no header gets into a message */
  async get(path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Response> {
    this.#access ??= this.#read();
    const { server } = this.#access;
    const action = `read "${path}" from Kubernetes at "${server.host}"`;
    const response = await this.#send(this.#access, path, query, action, signal);
    if (response.ok) return response;
    await response.body?.cancel();
    if (response.status === 401) {
      this.#access = undefined;
      this.#exec = undefined;
    }
    const code = [401, 403].includes(response.status) ? "denied" : "unavailable";
    throw new NydusError(code, `Cannot ${action}: it answered ${response.status}`);
  }

  async #send(
    access: KubeAccess,
    path: string,
    query: Readonly<Record<string, string>>,
    action: string,
    signal: AbortSignal,
  ): Promise<Response> {
    const url = new URL(access.server);
    url.pathname = url.pathname.replace(/\/$/, "") + path;
    url.search = new URLSearchParams(query).toString();
    const exec = await this.#execCredential(access, signal);
    try {
      return await fetch(url, {
        headers: { accept: "application/json", ...authorization(access, exec) },
        tls: tlsOf(access, exec),
        redirect: "error",
        signal,
      });
    } catch (error) {
      signal.throwIfAborted();
      const known = toNydusError(error, action);
      throw known.code === "internal"
        ? new NydusError("unavailable", `Cannot ${action}: no connection`, { cause: error })
        : known;
    }
  }

  async #execCredential({ user }: KubeAccess, signal: AbortSignal): Promise<ExecCredential | undefined> {
    if (user.exec === undefined) return undefined;
    if (this.#exec === undefined || Date.now() >= this.#exec.expires - MARGIN_MS)
      this.#exec = await runExecPlugin(user.exec, signal);
    return this.#exec;
  }
}

function authorization({ user }: KubeAccess, exec: ExecCredential | undefined): Record<string, string> {
  const token =
    user.tokenFile === undefined ? (user.token ?? exec?.token) : readFileSync(user.tokenFile, "utf8").trim();
  if (token !== undefined) return { authorization: `Bearer ${token}` };
  if (user.username === undefined) return {};
  const pair = Buffer.from(`${user.username}:${user.password ?? ""}`).toString("base64");
  return { authorization: `Basic ${pair}` };
}

function tlsOf(
  { tls }: KubeAccess,
  exec: ExecCredential | undefined,
): Bun.TLSOptions & { rejectUnauthorized: boolean } {
  const { ca, serverName, insecure = false } = tls;
  const [cert, key] = [exec?.cert ?? tls.cert, exec?.key ?? tls.key];
  return {
    rejectUnauthorized: !insecure,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
    ...(serverName === undefined ? {} : { serverName }),
  };
}
