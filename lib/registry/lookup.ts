/**
 * Reading documents (manifests) of a repository from the first place that has them.
 *
 * @module
 */
import { isCode } from "../base/error.ts";
import type { Capability, Endpoint, Endpoints } from "./endpoints.ts";
import type { HttpRequest, HttpResponse } from "./http.ts";

export type LookupRequest = Omit<HttpRequest, "url"> & {
  /** Under the repository: "manifests/latest". */
  readonly path: string;
  /** By tag "resolve", by digest "pull". */
  readonly capability: Capability;
};

/** The first good answer; when there is none, what the last place said: the registry itself, mostly. */
export async function lookUp(endpoints: Endpoints, request: LookupRequest): Promise<HttpResponse> {
  const { path, capability, ...rest } = request;
  const places = endpoints.order(capability).filter(({ forBlobs }) => !forBlobs);
  // Whoever configured that nobody may be asked by tag still wants an answer.
  const all = places.length === 0 ? endpoints.all.slice(-1) : places;
  let answer: Answer = {};
  for (const endpoint of all) {
    await answer.response?.discard();
    answer = await ask(endpoint, { ...rest, url: endpoint.url(path) });
    const { response, error } = answer;
    if (response !== undefined && response.status < 300) return response;
    if (isCode(error, "cancelled") || rest.signal?.aborted === true) throw error;
    if (isCode(error, "unavailable") || (response !== undefined && isTrouble(response.status)))
      endpoints.failed(endpoint, response === undefined ? messageOf(error) : `answered ${response.status}`);
  }
  if (answer.response !== undefined) return answer.response;
  throw answer.error;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

interface Answer {
  readonly response?: HttpResponse;
  readonly error?: unknown;
}

async function ask(endpoint: Endpoint, request: HttpRequest): Promise<Answer> {
  try {
    return { response: await endpoint.send(request) };
  } catch (error) {
    return { error };
  }
}

function isTrouble(status: number): boolean {
  return status === 429 || status >= 500;
}
