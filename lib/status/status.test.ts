import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { MountStatus } from "../mount/mount-request.ts";
import { statusApp } from "./app.ts";
import { serveStatus } from "./serve.ts";

const mount: MountStatus = {
  id: "1",
  mountpoint: '/mnt/"odd"',
  reference: "host/app:1",
  driver: "erofs",
  driverReason: "asked for",
  state: "mounted",
  writable: false,
  blobs: ["ab"],
  imageBytes: 1000,
  fetchedBytes: 10,
  requests: 2,
  chunks: 3,
  corruptChunks: 0,
  uncachedChunks: 0,
  hits: 5,
  misses: 1,
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

test("serveStatus() refuses an address that is none", () => {
  expect(() => serveStatus("nowhere", source)).toThrow(expect.objectContaining({ code: "usage" }));
});
