/**
 * Patterns that say for which images credentials are good: "registry.example:5000", "*.dkr.ecr.*.amazonaws.com",
 * "registry.example/team". Spec: `matchImages` of the kubelet's CredentialProvider; Kubernetes' secrets mean their keys
 * in the same way.
 *
 * @module
 */

export interface ImageName {
  /** As in references: "docker.io", "host:5000". */
  readonly registry: string;
  /** Empty = only the registry is known. */
  readonly repository: string;
}

/** How docker's own registry is called by those who write credentials. */
const DOCKER_HUB: readonly string[] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

export function matchesImage(pattern: string, { registry, repository }: ImageName): boolean {
  const [, host = "", path = ""] = /^(?:https?:\/\/)?([^/]*)\/?(.*)$/.exec(pattern) ?? [];
  const hosts = registry === "docker.io" ? DOCKER_HUB : [registry];
  return hosts.some((name) => matchesHost(host, name)) && matchesPath(path, repository);
}

/** Each part between dots may hold "*" and "?"; ports must be the same. */
function matchesHost(pattern: string, host: string): boolean {
  const [wanted, actual] = [splitPort(pattern), splitPort(host)];
  if (wanted.port !== actual.port) return false;
  const [parts, names] = [wanted.name.split("."), actual.name.split(".")];
  return parts.length === names.length && parts.every((part, i) => matchesGlob(part, names[i] ?? ""));
}

function splitPort(host: string): { readonly name: string; readonly port: string } {
  const [, name = host, port = ""] = /^(.*?)(?::(\d+))?$/.exec(host) ?? [];
  return { name: name.toLowerCase(), port };
}

function matchesGlob(glob: string, text: string): boolean {
  const escaped = glob.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`).test(text);
}

/** Old clients wrote the version of docker's API behind the host. */
function matchesPath(pattern: string, repository: string): boolean {
  const path = pattern.replace(/^v[12](\/|$)/, "").replace(/\/+$/, "");
  return path === "" || repository === path || repository.startsWith(`${path}/`);
}

/** The most telling first, as the kubelet does it: patterns in falling order. */
export function mostTellingFirst(a: string, b: string): number {
  return a < b ? 1 : a > b ? -1 : 0;
}
