/**
 * Stands before a registry, passes everything on and remembers what was asked: what a mount fetched is seen from
 * outside, not from its own counters.
 *
 * @module
 */

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly range: string | null;
  readonly status: number;
  /** Bytes of the answer's body. */
  readonly bytes: number;
}

export interface CountingProxy extends AsyncDisposable {
  /** "127.0.0.1:PORT". */
  readonly host: string;
  /** In order of completion. */
  readonly requests: readonly SeenRequest[];
  /** Forget what was asked so far, also what is not answered yet. */
  reset(): void;
  /** Bytes of blobs that were answered. */
  blobBytes(): number;
  /** Answer everything with 503 from now on. */
  refuse: boolean;
}

/** @param target "127.0.0.1:PORT" of the registry */
export function startCountingProxy(target: string): CountingProxy {
  const requests: SeenRequest[] = [];
  let resets = 0;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    async fetch(request) {
      const since = resets;
      if (proxy.refuse) return new Response(null, { status: 503 });
      const { pathname, search } = new URL(request.url);
      const answer = await fetch(`http://${target}${pathname}${search}`, {
        method: request.method,
        headers: request.headers,
        redirect: "manual",
        ...(request.body === null ? {} : { body: await request.arrayBuffer() }),
      });
      const body = await answer.bytes();
      const seen: SeenRequest = {
        method: request.method,
        path: pathname,
        range: request.headers.get("range"),
        status: answer.status,
        bytes: request.method === "HEAD" ? 0 : body.byteLength,
      };
      if (since === resets) requests.push(seen);
      return new Response(request.method === "HEAD" ? null : body, {
        status: answer.status,
        headers: answer.headers,
      });
    },
  });
  const proxy: CountingProxy = {
    refuse: false,
    host: `127.0.0.1:${server.port}`,
    requests,
    reset() {
      resets++;
      requests.splice(0);
    },
    blobBytes: () =>
      requests.filter((r) => r.path.includes("/blobs/")).reduce((total, r) => total + r.bytes, 0),
    [Symbol.asyncDispose]: () => server.stop(true),
  };
  return proxy;
}
