/**
 * Who we are to a registry: given outright, or looked up as docker does it, in `config.json` and through its
 * credential helpers. Secrets never get into messages.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { NydusError, toNydusError } from "../base/error.ts";
import { parseJsonObject } from "../oci/json.ts";
import { runHelper } from "./helper-program.ts";

/** What a token is asked for with. */
export type Login =
  | { readonly username: string; readonly password: string }
  | { readonly identityToken: string };

export type Credentials = (Login | { readonly registryToken: string }) & {
  /** Milliseconds since 1970; absent when nobody said. */
  readonly expires?: number;
};

export interface CredentialRequest {
  /** Without the registry: some keep credentials by repository. */
  readonly repository?: string;
  /** What the registry did not accept: others are wanted, or renewed ones. */
  readonly refused?: readonly Credentials[];
  readonly signal?: AbortSignal;
}

/** Undefined = go on without a name. */
export type CredentialSource = (
  registry: string,
  request: CredentialRequest,
) => Promise<Credentials | undefined>;

export function sameCredentials(a: Credentials | undefined, b: Credentials | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if ("username" in a) return "username" in b && a.username === b.username && a.password === b.password;
  if ("identityToken" in a) return "identityToken" in b && a.identityToken === b.identityToken;
  return "registryToken" in b && a.registryToken === b.registryToken;
}

/** Checks what came as JSON from another process. */
export function parseCredentials(value: unknown): Credentials | undefined {
  const { username, password, identityToken, registryToken, expires } = asJson(value);
  const life = typeof expires === "number" && Number.isFinite(expires) ? { expires } : {};
  if (typeof username === "string" && typeof password === "string") return { username, password, ...life };
  if (typeof identityToken === "string") return { identityToken, ...life };
  return typeof registryToken === "string" ? { registryToken, ...life } : undefined;
}

export interface DockerCredentialsOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** How docker names its own registry in config.json and to helpers. */
const DOCKER_HUB_KEY = "https://index.docker.io/v1/";
/** What helpers answer for a name when the secret is an identity token. */
const TOKEN_USER = "<token>";

export function fixedCredentials(credentials: Credentials | undefined): CredentialSource {
  return async () => credentials;
}

/** Reads the file at each call: a login must work without a restart. */
export function dockerCredentials(options: DockerCredentialsOptions = {}): CredentialSource {
  const env = options.env ?? process.env;
  return async (registry, { signal }) => {
    const config = await readConfig(env);
    const keys = serverKeys(registry);
    const helper = helperFor(config, keys);
    if (helper !== undefined) {
      for (const key of helper.keys) {
        const found = await askHelper(helper.name, key, env, signal);
        if (found !== undefined) return found;
      }
    }
    return fromAuths(config.auths, keys);
  };
}

type Json = Readonly<Record<string, unknown>>;

function asJson(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

async function readConfig(env: Readonly<Record<string, string | undefined>>): Promise<Json> {
  const directory = env.DOCKER_CONFIG || join(env.HOME || homedir(), ".docker");
  const path = join(directory, "config.json");
  try {
    return parseJsonObject(await readFile(path), `"${path}"`);
  } catch (error) {
    const known = toNydusError(error, `read "${path}"`);
    if (known.code === "not_found") return {};
    throw known;
  }
}

function serverKeys(registry: string): readonly string[] {
  if (registry === "docker.io")
    return [DOCKER_HUB_KEY, "docker.io", "index.docker.io", "registry-1.docker.io"];
  return [registry, `https://${registry}`, `http://${registry}`];
}

/** A helper for this registry comes before the one for all; either gets the name docker would use. */
function helperFor(
  config: Json,
  keys: readonly string[],
): { name: string; keys: readonly string[] } | undefined {
  const helpers = asJson(config.credHelpers);
  const key = keys.find((name) => typeof helpers[name] === "string");
  const name = key === undefined ? config.credsStore : helpers[key];
  if (typeof name !== "string" || name === "") return undefined;
  return { name, keys: key === undefined ? keys.slice(0, 2) : [key] };
}

async function askHelper(
  name: string,
  server: string,
  env: Readonly<Record<string, string | undefined>>,
  signal?: AbortSignal,
): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  const action = `ask "${program}" for credentials of "${server}"`;
  if (!/^[\w.-]+$/.test(name)) throw new NydusError("denied", `Cannot ${action}: its name is not plain`);
  const { code, output } = await runHelper([program, "get"], {
    input: `${server}\n`,
    env,
    action,
    ...(signal === undefined ? {} : { signal }),
  });
  if (code !== 0) {
    // The helper's way to say that it has none; anything else is a failure worth seeing.
    if (output.includes("credentials not found")) return undefined;
    throw new NydusError("denied", `Cannot ${action}: it failed with exit code ${code}`);
  }
  const answer = parseJsonObject(new TextEncoder().encode(output), `the answer of "${program}"`);
  return pair(answer.Username, answer.Secret);
}

function fromAuths(auths: unknown, keys: readonly string[]): Credentials | undefined {
  const all = asJson(auths);
  // Old clients wrote whole URLs: "https://host/v1/".
  const hostOf = (key: string): string => key.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
  const key =
    keys.find((name) => name in all) ?? Object.keys(all).find((name) => keys.includes(hostOf(name)));
  return key === undefined ? undefined : credentialsOfEntry(all[key]);
}

/** One entry of "auths", as config.json and Kubernetes' secrets have them. */
export function credentialsOfEntry(entry: unknown): Credentials | undefined {
  const { auth, identitytoken, username, password } = asJson(entry);
  if (typeof identitytoken === "string" && identitytoken !== "") return { identityToken: identitytoken };
  if (typeof auth !== "string" || auth === "") return pair(username, password);
  const text = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = text.indexOf(":");
  return colon < 0 ? undefined : pair(text.slice(0, colon), text.slice(colon + 1));
}

function pair(username: unknown, password: unknown): Credentials | undefined {
  if (typeof username !== "string" || typeof password !== "string") return undefined;
  if (username === TOKEN_USER) return { identityToken: password };
  return username === "" && password === "" ? undefined : { username, password };
}
