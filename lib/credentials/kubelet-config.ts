/**
 * The kubelet's configuration of credential providers. Spec: kubelet.config.k8s.io/v1, `CredentialProviderConfig`.
 *
 * @module
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { NydusError, toNydusError } from "../base/error.ts";
import { parseDuration } from "./duration.ts";

export interface ProviderConfig {
  /** Of the program, in the directory of providers. */
  readonly name: string;
  readonly matchImages: readonly string[];
  /** Milliseconds; what an answer is good for that does not say. */
  readonly defaultCacheDuration: number;
  readonly apiVersion: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

type Table = Readonly<Record<string, unknown>>;

const VERSIONS: ReadonlySet<unknown> = new Set(
  ["v1", "v1beta1", "v1alpha1"].map((v) => `kubelet.config.k8s.io/${v}`),
);
const API = /^credentialprovider\.kubelet\.k8s\.io\/v1(?:alpha1|beta1)?$/;

/**
 * @param path a file, or a directory of them, as the kubelet takes it
 * @throws usage, naming the file and what is wrong
 */
export async function readProviderConfig(path: string): Promise<readonly ProviderConfig[]> {
  const providers: ProviderConfig[] = [];
  for (const file of await filesOf(path)) providers.push(...parseProviderConfig(await readText(file), file));
  const names = providers.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw bad(path, `provider "${twice}" occurs twice`);
  return providers;
}

async function filesOf(path: string): Promise<readonly string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const names = (await readdir(path)).filter((name) => /\.(?:json|ya?ml)$/.test(name));
    return names.toSorted().map((name) => join(path, name));
  } catch (error) {
    throw toNydusError(error, `read "${path}"`);
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw toNydusError(error, `read "${path}"`);
  }
}

export function parseProviderConfig(text: string, path: string): readonly ProviderConfig[] {
  const config = asTable(parseYaml(text, path));
  if (config.kind !== "CredentialProviderConfig" || !VERSIONS.has(config.apiVersion))
    throw bad(path, "it is not a CredentialProviderConfig that is known here");
  if (!Array.isArray(config.providers) || config.providers.length === 0)
    throw bad(path, "it names no provider");
  return config.providers.map((provider: unknown) => parseProvider(asTable(provider), path));
}

function parseYaml(text: string, path: string): unknown {
  try {
    return Bun.YAML.parse(text);
  } catch (error) {
    // The parser's message may quote the file.
    throw new NydusError("usage", `Cannot use "${path}": it is not YAML`, { cause: error });
  }
}

function parseProvider(provider: Table, path: string): ProviderConfig {
  const {
    name,
    matchImages,
    apiVersion,
    args = [],
    env = [],
    defaultCacheDuration,
    tokenAttributes,
  } = provider;
  if (typeof name !== "string" || !/^[^/\0\s]+$/.test(name) || name === "." || name === "..")
    throw bad(path, "a provider has no plain name");
  if (asTable(tokenAttributes).requireServiceAccount === true)
    throw bad(path, `provider "${name}" requires a service account's token, which only the kubelet has`);
  const duration = typeof defaultCacheDuration === "string" ? parseDuration(defaultCacheDuration) : undefined;
  if (duration === undefined) throw bad(path, `provider "${name}" has no default cache duration`);
  if (typeof apiVersion !== "string" || !API.test(apiVersion))
    throw bad(path, `the API version of provider "${name}" is not known`);
  if (!isTexts(matchImages) || matchImages.length === 0)
    throw bad(path, `provider "${name}" matches no image`);
  if (!isTexts(args)) throw bad(path, `the arguments of provider "${name}" are not texts`);
  const base = { name, matchImages, apiVersion, args, env: parseEnv(env, name, path) };
  return { ...base, defaultCacheDuration: duration };
}

function parseEnv(value: unknown, name: string, path: string): Readonly<Record<string, string>> {
  if (!Array.isArray(value)) throw bad(path, `the environment of provider "${name}" is not a list`);
  const entries = value.map((entry: unknown) => {
    const { name: key, value: text } = asTable(entry);
    if (typeof key === "string" && typeof text === "string") return [key, text] as const;
    throw bad(path, `the environment of provider "${name}" is not names with values`);
  });
  return Object.fromEntries(entries);
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function asTable(value: unknown): Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Table) : {};
}

function bad(path: string, state: string): NydusError {
  return new NydusError("usage", `Cannot use "${path}": ${state}`);
}
