/**
 * Programs that a kubeconfig names to log in to an API server. Spec: client.authentication.k8s.io/v1, `ExecCredential`.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import { parseJsonObject } from "../oci/json.ts";
import { runHelper } from "../registry/helper-program.ts";

export interface ExecPlugin {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly apiVersion: string;
}

/** What it gave: a token, a certificate, or both. */
export interface ExecCredential {
  readonly token?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Milliseconds since 1970. */
  readonly expires: number;
}

export async function runExecPlugin(plugin: ExecPlugin, signal?: AbortSignal): Promise<ExecCredential> {
  const { command, args, env, apiVersion } = plugin;
  const action = `log in to Kubernetes with "${command}"`;
  const question = { apiVersion, kind: "ExecCredential", spec: { interactive: false } };
  const { code, output } = await runHelper([command, ...args], {
    input: "",
    env: { ...process.env, ...env, KUBERNETES_EXEC_INFO: JSON.stringify(question) },
    action,
    ...(signal === undefined ? {} : { signal }),
  });
  if (code !== 0) throw new NydusError("denied", `Cannot ${action}: it failed with exit code ${code}`);
  const answer = parseJsonObject(new TextEncoder().encode(output), `the answer of "${command}"`);
  const { status } = answer;
  if (answer.kind !== "ExecCredential" || answer.apiVersion !== apiVersion || typeof status !== "object")
    throw corrupt(`Cannot ${action}: its answer is not an ExecCredential of ${apiVersion}`);
  return parseStatus({ ...status });
}

function parseStatus(status: Readonly<Record<string, unknown>>): ExecCredential {
  const { token, clientCertificateData: cert, clientKeyData: key, expirationTimestamp: end } = status;
  const expires = typeof end === "string" ? Date.parse(end) : Number.NaN;
  return {
    ...(typeof token === "string" ? { token } : {}),
    ...(typeof cert === "string" && typeof key === "string" ? { cert, key } : {}),
    expires: Number.isNaN(expires) ? Number.POSITIVE_INFINITY : expires,
  };
}
