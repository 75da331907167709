/**
 * Image references as people write them: `[host[:port]/]path[:tag][@digest]`, with the defaults of docker
 * (`docker.io`, `library/`, `latest`). Grammar: distribution/reference.
 *
 * @module
 */
import { type Digest, isDigest } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";

export interface Reference {
  /** Host with optional port: "docker.io", "127.0.0.1:5000", "[::1]:5000". */
  readonly registry: string;
  /** "library/alpine". */
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

const DEFAULT_REGISTRY = "docker.io";
const LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:.]+\\])(?::[0-9]{1,5})?$`);
const COMPONENT = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
/** Longest repository name (with host) that registries accept. */
const NAME_LIMIT = 255;

export function isRepository(text: string): boolean {
  return text.length <= NAME_LIMIT && REPOSITORY.test(text);
}

export function isTag(text: string): boolean {
  return TAG.test(text);
}

/** @throws usage when the text is not a reference */
export function parseReference(text: string): Reference {
  const bad = (state: string): NydusError =>
    new NydusError("usage", `Cannot use image reference "${shown(text)}": ${state}`);

  const [beforeDigest = "", digest, ...more] = text.split("@");
  if (more.length > 0) throw bad("it has more than one @");
  if (digest !== undefined && !isDigest(digest)) throw bad("its digest is not sha256:<64 hex digits>");

  const { name, tag } = splitTag(beforeDigest);
  if (tag !== undefined && !isTag(tag)) throw bad(`"${tag.slice(0, 150)}" is not a tag`);

  const { registry, repository } = splitHost(name);
  if (!HOST.test(registry)) throw bad(`"${registry}" is not a host name`);
  if (!REPOSITORY.test(repository)) {
    throw bad(/[A-Z]/.test(repository) ? "its path must be lowercase" : "its path is not a repository name");
  }
  if (registry.length + 1 + repository.length > NAME_LIMIT)
    throw bad(`it is longer than ${NAME_LIMIT} characters`);
  const named = tag ?? (digest === undefined ? "latest" : undefined);
  return {
    registry,
    repository,
    ...(named === undefined ? {} : { tag: named }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** People put "user:password@" in front, as in URLs. */
function shown(text: string): string {
  return text.replace(/^[^@/]*@(?!sha256:)/, "***@").slice(0, 300);
}

/** A colon after the last slash starts the tag; one before it belongs to the host's port. */
function splitTag(text: string): { name: string; tag?: string } {
  const colon = text.lastIndexOf(":");
  if (colon <= text.lastIndexOf("/")) return { name: text };
  return { name: text.slice(0, colon), tag: text.slice(colon + 1) };
}

/** The first component is a host if it could not be a path: it has a dot, a colon, a bracket, or is "localhost". */
function splitHost(name: string): { registry: string; repository: string } {
  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  if (first === "localhost" || /[.:[]/.test(first)) {
    const repository = name.slice(slash + 1);
    const registry = first === "index.docker.io" ? DEFAULT_REGISTRY : first;
    return { registry, repository: completed(registry, repository) };
  }
  return { registry: DEFAULT_REGISTRY, repository: completed(DEFAULT_REGISTRY, name) };
}

function completed(registry: string, repository: string): string {
  return registry === DEFAULT_REGISTRY && !repository.includes("/") ? `library/${repository}` : repository;
}

/** The full form, as containerd stores it: "docker.io/library/alpine:latest". */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? "" : `:${reference.tag}`;
  const digest = reference.digest === undefined ? "" : `@${reference.digest}`;
  return `${reference.registry}/${reference.repository}${tag}${digest}`;
}
