/**
 * containerd's host configuration: which mirrors a registry has, and how they want to be talked to. Spec: containerd's
 * docs/hosts.md.
 *
 * @module
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { NydusError, toNydusError } from "../base/error.ts";
import { EVERYTHING, type Place } from "./endpoint.ts";
import type { Capability } from "./endpoints.ts";
import type { TlsOptions } from "./tls.ts";

/** Where containerd looks when it was told nothing else. */
export const DEFAULT_HOSTS_DIRECTORY = "/etc/containerd/certs.d";

const FILE = "hosts.toml";
const CAPABILITIES: ReadonlySet<string> = EVERYTHING;
/** A header's name, and a value that stays one header. RFC 9110 5.1, 5.5. */
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

type Table = Readonly<Record<string, unknown>>;

/**
 * The places that serve a registry, mirrors first; undefined when nothing is configured for it.
 *
 * @param registry as in references: "docker.io", "host:5000"
 * @throws usage, naming the file and the setting
 */
export function configuredPlaces(directory: string, registry: string): readonly Place[] | undefined {
  for (const name of directoriesOf(registry)) {
    const found = placesIn(join(directory, name));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** A colon is not welcome in every file system. */
function directoriesOf(registry: string): readonly string[] {
  if (!/^[\w.:[\]-]+$/.test(registry) || registry.startsWith(".")) return [];
  const plain = registry.replace(/:(\d+)$/, "_$1_");
  return [...new Set([plain, registry, "_default"])];
}

function placesIn(directory: string): readonly Place[] | undefined {
  const names = listing(directory);
  if (names === undefined) return undefined;
  if (!names.includes(FILE)) return [fromCertificates(directory, names)];
  const path = join(directory, FILE);
  const settings = new Settings(directory, path);
  return settings.places(parseToml(path));
}

function listing(directory: string): readonly string[] | undefined {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    const known = toNydusError(error, `read "${directory}"`);
    if (known.code === "not_found") return undefined;
    throw known;
  }
}

function parseToml(path: string): Table {
  try {
    return Bun.TOML.parse(readFileSync(path, "utf8")) as Table;
  } catch (error) {
    // The parser's message may quote the file, which may hold secrets in headers.
    throw new NydusError("usage", `Cannot use "${path}": it is not TOML`, { cause: error });
  }
}

/** Docker's way: *.crt are authorities, NAME.cert and NAME.key are who we are. */
function fromCertificates(directory: string, names: readonly string[]): Place {
  const ca = names.filter((name) => name.endsWith(".crt")).map((name) => readPem(join(directory, name)));
  const own = names.find((name) => name.endsWith(".cert"));
  const certificate =
    own === undefined
      ? {}
      : {
          certificate: {
            cert: readPem(join(directory, own)),
            key: readPem(join(directory, own.replace(/cert$/, "key"))),
          },
        };
  const tls: TlsOptions = { ...(ca.length === 0 ? {} : { ca }), ...certificate };
  return { api: undefined, capabilities: EVERYTHING, ...(Object.keys(tls).length === 0 ? {} : { tls }) };
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw toNydusError(error, `read certificate "${path}"`);
  }
}

/** Reads one file's settings, and says where one is wrong. */
class Settings {
  readonly #directory: string;
  readonly #path: string;

  constructor(directory: string, path: string) {
    this.#directory = directory;
    this.#path = path;
  }

  /** In the file's order; the server itself comes last. */
  places(file: Table): readonly Place[] {
    const hosts = this.#table(file.host, "host");
    const mirrors = Object.entries(hosts).map(([name, host]) =>
      this.#place(name, this.#table(host, `host."${name}"`)),
    );
    return [...mirrors, this.#place(this.#optional(file.server, "server"), file)];
  }

  #place(server: string | undefined, settings: Table): Place {
    const headers = this.#headers(settings.header);
    const tls = this.#tls(settings);
    return {
      api: server === undefined || server === "" ? undefined : this.#api(server, settings),
      capabilities: this.#capabilities(settings.capabilities),
      ...(headers === undefined ? {} : { headers }),
      ...(tls === undefined ? {} : { tls }),
    };
  }

  #api(server: string, settings: Table): URL {
    const text = /^https?:\/\//.test(server) ? server : `https://${server}`;
    if (!URL.canParse(text)) throw this.#wrong(`host "${server}"`, "is not an address");
    const url = new URL(text);
    if (url.username !== "" || url.password !== "") throw this.#wrong("a host", "must not hold a password");
    const path = url.pathname.replace(/\/+$/, "");
    url.pathname = settings.override_path === true || path.endsWith("/v2") ? path : `${path}/v2`;
    return url;
  }

  #capabilities(value: unknown): ReadonlySet<Capability> {
    const names = this.#list(value, "capabilities").map((name) => String(name).toLowerCase());
    if (names.length === 0) return EVERYTHING;
    const unknown = names.find((name) => !CAPABILITIES.has(name));
    if (unknown !== undefined) throw this.#wrong("capabilities", `holds "${unknown}"`);
    return new Set(names as Capability[]);
  }

  #headers(value: unknown): Record<string, string> | undefined {
    if (value === undefined) return undefined;
    const headers: Record<string, string> = {};
    for (const [name, given] of Object.entries(this.#table(value, "header"))) {
      const text = this.#list(given, `header."${name}"`).join(", ");
      if (!HEADER_NAME.test(name) || !HEADER_VALUE.test(text))
        throw this.#wrong(`header "${name}"`, "is not a header");
      headers[name.toLowerCase()] = text;
    }
    return headers;
  }

  #tls(settings: Table): TlsOptions | undefined {
    const { skip_verify: skip } = settings;
    if (skip !== undefined && typeof skip !== "boolean") throw this.#wrong("skip_verify", "is not a boolean");
    const ca = this.#list(settings.ca, "ca").map((path) => this.#pem(path, "ca"));
    const certificate = this.#certificate(settings.client);
    if (skip === undefined && ca.length === 0 && certificate === undefined) return undefined;
    return {
      ...(skip === undefined ? {} : { skipVerify: skip }),
      ...(ca.length === 0 ? {} : { ca }),
      ...(certificate === undefined ? {} : { certificate }),
    };
  }

  /** A file with both, or a pair of files. */
  #certificate(value: unknown): TlsOptions["certificate"] {
    const pairs = this.#list(value, "client");
    if (pairs.length === 0) return undefined;
    if (pairs.length > 1)
      throw this.#wrong("client", "names more than one certificate, which is not supported");
    const [certFile, keyFile = certFile] = this.#list(pairs[0], "client").filter((path) => path !== "");
    return { cert: this.#pem(certFile, "client"), key: this.#pem(keyFile, "client") };
  }

  #pem(path: unknown, setting: string): string {
    if (typeof path !== "string" || path === "") throw this.#wrong(setting, "names no file");
    return readPem(resolve(this.#directory, path));
  }

  #table(value: unknown, setting: string): Table {
    if (value === undefined) return {};
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Table;
    throw this.#wrong(setting, "is not a table");
  }

  /** One or several. */
  #list(value: unknown, setting: string): readonly unknown[] {
    if (value === undefined) return [];
    if (Array.isArray(value)) return value;
    if (typeof value === "string") return [value];
    throw this.#wrong(setting, "is neither text nor a list");
  }

  #optional(value: unknown, setting: string): string | undefined {
    if (value === undefined || typeof value === "string") return value;
    throw this.#wrong(setting, "is not text");
  }

  #wrong(setting: string, state: string): NydusError {
    return new NydusError("usage", `Cannot use "${this.#path}": ${setting} ${state}`);
  }
}
