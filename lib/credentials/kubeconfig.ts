/**
 * How a kubeconfig says that the API server is reached: address, certificates, and who we are. Spec: Kubernetes'
 * client-go, `clientcmd/api/v1`. Programs named under `exec` are asked as client.authentication.k8s.io says.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { NydusError, toNydusError } from "../base/error.ts";
import type { ExecPlugin } from "./exec-plugin.ts";

export interface KubeAccess {
  readonly server: URL;
  readonly tls: KubeTls;
  readonly user: KubeUser;
}

/** PEM texts. */
export interface KubeTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly serverName?: string;
  readonly insecure?: boolean;
}

export interface KubeUser {
  readonly token?: string;
  /** Read again for each request: such tokens are replaced in place. */
  readonly tokenFile?: string;
  readonly username?: string;
  readonly password?: string;
  readonly exec?: ExecPlugin;
}

/** In the place of a path: the service account of the pod that we run in. */
export const IN_CLUSTER = "in-cluster";
/** In the place of a path: kubectl's own, and where there is none, the pod's account. */
export const DEFAULT_KUBECONFIG = "default";

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

type Environment = Readonly<Record<string, string | undefined>>;
type Table = Readonly<Record<string, unknown>>;

/** What a flag names: a path, or one of the words above. */
export function kubeconfigPath(given: string, env: Environment = process.env): string {
  if (given === IN_CLUSTER) return given;
  if (given !== DEFAULT_KUBECONFIG) return resolve(given);
  const path = env.KUBECONFIG || join(env.HOME || homedir(), ".kube/config");
  return existsSync(path) ? path : IN_CLUSTER;
}

/** @throws usage and others, naming the file; nothing of it is quoted */
export function readKubeconfig(path: string, env: Environment = process.env): KubeAccess {
  return path === IN_CLUSTER ? inCluster(env) : parseKubeconfig(readText(path), path);
}

function inCluster(env: Environment): KubeAccess {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = env;
  if (host === undefined || host === "")
    throw new NydusError("usage", "Cannot use the pod's service account: this is no pod; name a kubeconfig");
  const name = host.includes(":") ? `[${host}]` : host;
  return {
    server: new URL(`https://${name}:${port}`),
    tls: { ca: readText(join(SERVICE_ACCOUNT, "ca.crt")) },
    user: { tokenFile: join(SERVICE_ACCOUNT, "token") },
  };
}

function parseKubeconfig(text: string, path: string): KubeAccess {
  const file = new Kubeconfig(text, path);
  return file.access();
}

class Kubeconfig {
  readonly #path: string;
  readonly #config: Table;

  constructor(text: string, path: string) {
    this.#path = path;
    try {
      this.#config = asTable(Bun.YAML.parse(text));
    } catch (error) {
      // The parser's message may quote the file, which holds secrets.
      throw new NydusError("usage", `Cannot use "${path}": it is not YAML`, { cause: error });
    }
  }

  access(): KubeAccess {
    const current = this.#text(this.#config, "current-context");
    if (current === undefined) throw this.#bad("it has no current context");
    const context = this.#named("contexts", "context", current);
    const cluster = this.#named("clusters", "cluster", this.#text(context, "cluster") ?? "");
    const name = this.#text(context, "user");
    const user = name === undefined ? {} : this.#named("users", "user", name);
    return { server: this.#server(cluster), tls: this.#tls(cluster, user), user: this.#user(user) };
  }

  #named(list: string, kind: string, name: string): Table {
    const entries = this.#config[list];
    const found = (Array.isArray(entries) ? entries : []).map(asTable).find((entry) => entry.name === name);
    if (found === undefined) throw this.#bad(`it has no ${kind} "${name}"`);
    return asTable(found[kind]);
  }

  #server(cluster: Table): URL {
    const server = this.#text(cluster, "server") ?? "";
    if (!/^https?:\/\//.test(server) || !URL.canParse(server))
      throw this.#bad("its cluster has no web address");
    return new URL(server);
  }

  #tls(cluster: Table, user: Table): KubeTls {
    const ca = this.#pem(cluster, "certificate-authority");
    const cert = this.#pem(user, "client-certificate");
    const key = this.#pem(user, "client-key");
    const serverName = this.#text(cluster, "tls-server-name");
    return {
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(serverName === undefined ? {} : { serverName }),
      ...(cluster["insecure-skip-tls-verify"] === true ? { insecure: true } : {}),
    };
  }

  /** In the file, as base64, or beside it. */
  #pem(table: Table, key: string): string | undefined {
    const data = this.#text(table, `${key}-data`);
    if (data !== undefined) return Buffer.from(data, "base64").toString();
    const path = this.#text(table, key);
    return path === undefined ? undefined : readText(this.#beside(path));
  }

  #user(user: Table): KubeUser {
    const [token, file] = [this.#text(user, "token"), this.#text(user, "tokenFile")];
    const [username, password] = [this.#text(user, "username"), this.#text(user, "password")];
    return {
      ...(token === undefined ? {} : { token }),
      ...(file === undefined ? {} : { tokenFile: this.#beside(file) }),
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(user.exec === undefined ? {} : { exec: this.#exec(asTable(user.exec)) }),
    };
  }

  #exec(exec: Table): ExecPlugin {
    const [command, apiVersion] = [this.#text(exec, "command"), this.#text(exec, "apiVersion")];
    if (command === undefined || apiVersion === undefined)
      throw this.#bad("its exec plugin has no command or no API version");
    if (exec.interactiveMode === "Always") throw this.#bad("its exec plugin wants a person to answer");
    const args = Array.isArray(exec.args) ? exec.args.map(String) : [];
    const env = (Array.isArray(exec.env) ? exec.env : []).map(asTable);
    return {
      // Only a path is relative to the file; a plain name is looked up.
      command: command.includes("/") ? this.#beside(command) : command,
      apiVersion,
      args,
      env: Object.fromEntries(env.map(({ name, value }) => [String(name), String(value)])),
    };
  }

  #beside(path: string): string {
    return resolve(dirname(this.#path), path);
  }

  #text(table: Table, key: string): string | undefined {
    const value = table[key];
    return typeof value === "string" && value !== "" ? value : undefined;
  }

  #bad(state: string): NydusError {
    return new NydusError("usage", `Cannot use "${this.#path}": ${state}`);
  }
}

function asTable(value: unknown): Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Table) : {};
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw toNydusError(error, `read "${path}"`);
  }
}
