import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { NydusError } from "../base/error.ts";
import type { CacheStatus } from "../blob/cache-status.ts";
import type { MountStatus } from "../mount/mount-request.ts";
import { statusApp } from "./app.ts";
import { OperationRecorder } from "./operations.ts";
import { serveStatus } from "./serve.ts";
import type { SnapshotStatus } from "./source.ts";

const mount: MountStatus = {
  id: "1",
  mountpoint: '/mnt/"odd"',
  reference: "host/app:1",
  driver: "erofs",
  driverReason: "asked for",
  format: "RAFS v6",
  state: "mounted",
  writable: false,
  blobs: ["ab"],
  directBlobs: [],
  imageBytes: 1000,
  fetchedBytes: 10,
  requests: 2,
  chunks: 3,
  corruptChunks: 0,
  uncachedChunks: 0,
  hits: 5,
  misses: 1,
  dataBytes: 8192,
  cachedBytes: 4096,
  sources: [{ name: "host", state: "well", failures: 0 }],
};
const cache: CacheStatus = {
  directory: "/c",
  bytes: 900,
  limit: 1000,
  evictedBytes: 7,
  checkedChunks: 5,
  damagedChunks: 1,
};
const source = { mounts: () => Promise.resolve([mount]) };

test("statusApp() answers health, mounts and metrics", async () => {
  const app = statusApp(source);
  expect(await (await app.request("/healthz")).text()).toBe("ok\n");
  expect(await (await app.request("/api/v1/mounts")).json()).toEqual([mount]);
  const metrics = await (await app.request("/metrics")).text();
  const labels = '{mountpoint="/mnt/\\"odd\\"",reference="host/app:1",driver="erofs"}';
  expect(metrics).toContain(`nydus_mount_fetched_bytes_total${labels} 10\n`);
  expect(metrics).toContain('nydus_mounts{driver="erofs",state="mounted"} 1\n');
});

test("statusApp() shows how full caches are, and leaves out a quota that is none", async () => {
  const { limit: _, ...unlimited } = cache;
  const caches = [cache, { ...unlimited, directory: "/d" }];
  const app = statusApp({ ...source, caches: () => Promise.resolve(caches) });
  expect(await (await app.request("/api/v1/caches")).json()).toEqual(caches);
  const metrics = await (await app.request("/metrics")).text();
  expect(metrics).toContain('nydus_cache_bytes{directory="/c"} 900\n');
  expect(metrics).toContain('nydus_cache_limit_bytes{directory="/c"} 1000\n');
  expect(metrics).not.toContain('nydus_cache_limit_bytes{directory="/d"}');
  expect(await (await statusApp(source).request("/api/v1/caches")).json()).toEqual([]);
});

test("statusApp() counts snapshots and times calls of a snapshotter", async () => {
  const recorder = new OperationRecorder();
  recorder.observe("prepare", "ok", 0.004);
  recorder.observe("prepare", "ok", 0.2);
  recorder.observe("prepare", "exists", 0.0005);
  const snapshot: SnapshotStatus = {
    namespace: "default",
    name: "a",
    parent: "",
    kind: "committed",
    layer: "nydus-data",
    id: 1,
    createdAt: "2026-01-01T00:00:00.000Z",
  };
  const app = statusApp({
    ...source,
    snapshots: () =>
      Promise.resolve([snapshot, { ...snapshot, name: "b", failure: { error: "gone", since: "2026" } }]),
    operations: () => recorder.list(),
  });
  expect(await (await app.request("/api/v1/snapshots")).json()).toMatchObject([{ name: "a" }, { name: "b" }]);
  const metrics = (await (await app.request("/metrics")).text()).split("\n");
  const name = "nydus_snapshotter_operation_seconds";
  expect(metrics).toEqual(
    expect.arrayContaining([
      'nydus_snapshots{kind="committed",layer="nydus-data"} 2',
      "nydus_failed_images 1",
      `# TYPE ${name} histogram`,
      `${name}_bucket{operation="prepare",code="ok",le="0.001"} 0`,
      `${name}_bucket{operation="prepare",code="ok",le="0.005"} 1`,
      `${name}_bucket{operation="prepare",code="ok",le="0.5"} 2`,
      `${name}_bucket{operation="prepare",code="ok",le="+Inf"} 2`,
      `${name}_count{operation="prepare",code="ok"} 2`,
      `${name}_count{operation="prepare",code="exists"} 1`,
    ]),
  );
});

test("statusApp() says 404 for snapshots where no snapshotter runs", async () => {
  expect((await statusApp(source).request("/api/v1/snapshots")).status).toBe(404);
});

test("serveStatus() listens on loopback when no host is named, and on a private socket", async () => {
  await using tcp = serveStatus(":0", source);
  expect(tcp.address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  expect(await (await fetch(`${tcp.address}/healthz`)).text()).toBe("ok\n");
  const directory = mkdtempSync(join(tmpdir(), "nydus-status-"));
  try {
    await using unix = serveStatus(`unix:${directory}/s.sock`, source);
    expect(statSync(`${directory}/s.sock`).mode & 0o777).toBe(0o600);
    expect((await fetch("http://status/healthz", { unix: unix.address.slice(5) })).status).toBe(200);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("serveStatus() replaces a stale socket, but never another file", async () => {
  const directory = mkdtempSync(join(tmpdir(), "nydus-status-"));
  try {
    writeFileSync(`${directory}/precious`, "data");
    expect(() => serveStatus(`unix:${directory}/precious`, source)).toThrow(
      expect.objectContaining({ code: "exists" }),
    );
    expect(readFileSync(`${directory}/precious`, "utf8")).toBe("data");
    const stale = createServer().listen(`${directory}/stale`);
    await once(stale, "listening");
    renameSync(`${directory}/stale`, `${directory}/s.sock`); // closing removes only its own name
    stale.close();
    await using unix = serveStatus(`unix:${directory}/s.sock`, source);
    expect((await fetch("http://status/healthz", { unix: unix.address.slice(5) })).status).toBe(200);
    expect(readdirSync(directory).sort()).toEqual(["precious", "s.sock"]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("serveStatus() refuses an address that is none", () => {
  expect(() => serveStatus("nowhere", source)).toThrow(expect.objectContaining({ code: "usage" }));
});

test("statusApp() shows a page: trouble first, every value as text, nothing that could change anything", async () => {
  const base = {
    namespace: "default",
    parent: "",
    kind: "committed",
    layer: "nydus-bootstrap",
    createdAt: "2026",
  } as const;
  const app = statusApp({
    mounts: () => Promise.resolve([{ ...mount, reference: "host/<i>app</i>:1" }]),
    caches: () => Promise.resolve([cache]),
    snapshots: () =>
      Promise.resolve([
        { ...base, id: 7, name: "seven", reference: "host/idle:1" },
        {
          ...base,
          id: 8,
          name: "eight",
          reference: "host/gone:1",
          failure: { error: "no route", since: "2026" },
        },
      ]),
    events: () =>
      Promise.resolve([
        { at: 0, level: "warn" as const, message: "cannot restore", fields: { snapshot: "eight" } },
      ]),
    reads: () => Promise.reject(new NydusError("not_found", "no such mount")),
  });
  const answer = await app.request("/");
  expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
  const page = await answer.text();
  const places = [
    "host/gone:1",
    "no route",
    "host/&lt;i&gt;app&lt;/i&gt;:1",
    "50% here",
    "host/idle:1",
    "cannot restore",
  ];
  const found = places.map((text) => page.indexOf(text));
  expect(found).not.toContain(-1);
  expect(found).toEqual(found.toSorted((a, b) => a - b));
  expect(page).not.toContain("<i>");
  expect((await app.request("/mounts/9/files")).status).toBe(404);
  expect((await app.request("/", { method: "POST" })).status).toBe(405);
});

test("statusApp() sends what has changed, and only that, to pages that are open", async () => {
  let fetched = 10;
  const app = statusApp({ mounts: () => Promise.resolve([{ ...mount, fetchedBytes: fetched }]) });
  const { body } = await app.request("/live");
  const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
  const next = async (): Promise<string[]> => {
    for (;;) {
      const text = (await reader?.read())?.value ?? "";
      const data = /^data: (.*)$/m.exec(text)?.[1];
      if (data !== undefined) return Object.keys(JSON.parse(data));
    }
  };
  expect(await next()).toEqual(["summary", "broken", "images", "cache", "sources", "events"]);
  fetched = 2000;
  expect(await next()).toEqual(["images"]);
  await reader?.cancel();
});

test("serveStatus() on loopback does not answer to other names", async () => {
  await using tcp = serveStatus("127.0.0.1:0", source);
  const port = new URL(tcp.address).port;
  expect((await fetch(`http://localhost:${port}/healthz`)).status).toBe(200);
  const foreign = await fetch(`${tcp.address}/healthz`, { headers: { host: `evil.example:${port}` } });
  expect(foreign.status).toBe(421);
});

test("the page names mounts whose reads fail, and where they are", async () => {
  const broken = [{ id: "1", reference: "host/app:1", since: "2026-01-01T00:00:00Z", mountpoints: ["/<r>"] }];
  const app = statusApp({ mounts: async () => [], broken: async () => broken });
  const page = await (await app.request("/")).text();
  expect(page).toContain("reads fail");
  expect(page).toContain("/&lt;r&gt;");
  expect(await (await app.request("/api/v1/broken")).json()).toEqual(broken);
});
