/**
 * Credentials for the process that reads image data, from the one that keeps them: HTTP on a unix socket that only root
 * may open. Asked for at each login, so that what was renewed or changed is used at once; nothing is written anywhere.
 *
 *     POST /credentials   {"registry", "repository", "refused": [...]}; answers {"credentials": ...} or {}
 *
 * @module
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { NydusError } from "../base/error.ts";
import {
  type CredentialRequest,
  type CredentialSource,
  type Credentials,
  parseCredentials,
  sameCredentials,
} from "../registry/credentials.ts";

export function credentialSocket(runDirectory: string): string {
  return join(runDirectory, "credentials.sock");
}

/** Seconds that an answer may take: a helper may have to log in somewhere first. */
const PATIENCE = 60;

export function serveCredentials(socket: string, source: CredentialSource): AsyncDisposable {
  mkdirSync(dirname(socket), { recursive: true, mode: 0o700 });
  rmSync(socket, { force: true });
  const server = Bun.serve({
    unix: socket,
    fetch: async (request, server) => {
      server.timeout(request, PATIENCE);
      const question = parseQuestion(await request.json());
      const credentials = await source(question.registry, { ...question, signal: request.signal });
      return Response.json(credentials === undefined ? {} : { credentials });
    },
    // The default would show the source code, and perhaps values, to whoever asks.
    error: () => new Response("failed", { status: 500 }),
  });
  chmodSync(socket, 0o600);
  return {
    async [Symbol.asyncDispose]() {
      await server.stop(true);
    },
  };
}

interface Question {
  readonly registry: string;
  readonly repository: string;
  readonly refused: readonly Credentials[];
}

function parseQuestion(value: unknown): Question {
  const { registry, repository, refused } = (
    typeof value === "object" && value !== null ? value : {}
  ) as Record<string, unknown>;
  if (typeof registry !== "string" || typeof repository !== "string")
    throw new NydusError("usage", "Cannot give credentials: the request names no repository");
  const given = Array.isArray(refused) ? refused.map(parseCredentials) : [];
  return { registry, repository, refused: given.filter((one) => one !== undefined) };
}

/** Images whose last answer is remembered; the oldest is forgotten first. */
const MAX_REMEMBERED = 4096;

/**
 * Asks at a socket. While nobody answers there (the other process is being started again), the last answer is good, and
 * then the fallback's.
 */
export function askedCredentials(socket: string, fallback: CredentialSource): CredentialSource {
  const last = new Map<string, Credentials | undefined>();
  return async (registry, request) => {
    const name = `${registry}/${request.repository}`;
    const answer = await ask(socket, registry, request);
    if (answer === undefined) {
      const known = last.get(name);
      const isRefused = request.refused?.some((other) => sameCredentials(other, known)) ?? false;
      return known !== undefined && !isRefused ? known : fallback(registry, request);
    }
    const [oldest] = last.keys();
    if (last.size >= MAX_REMEMBERED && oldest !== undefined) last.delete(oldest);
    last.set(name, answer.credentials);
    return answer.credentials;
  };
}

/** Undefined when nobody answers. */
async function ask(
  socket: string,
  registry: string,
  { repository = "", refused = [], signal }: CredentialRequest,
): Promise<{ readonly credentials: Credentials | undefined } | undefined> {
  try {
    const response = await fetch("http://credentials/credentials", {
      method: "POST",
      unix: socket,
      body: JSON.stringify({ registry, repository, refused }),
      ...(signal === undefined ? {} : { signal }),
    });
    if (!response.ok) return undefined;
    const { credentials } = (await response.json()) as { credentials?: unknown };
    return { credentials: parseCredentials(credentials) };
  } catch {
    signal?.throwIfAborted();
    return undefined;
  }
}
