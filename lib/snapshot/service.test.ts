import { once } from "node:events";
import { lstat, mkdtemp, rename, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { startContainerd } from "../../tests/support/containerd.ts";
import { remoteSnapshotter } from "../../tests/support/snapshotter-client.ts";
import { testSnapshotter } from "../../tests/support/snapshotter-contract.ts";
import { TestMounter } from "../../tests/support/test-mounter.ts";
import { quietLogger } from "../base/log.ts";
import { ContainerdClient } from "../containerd/client.ts";
import { withLease } from "../containerd/leases.ts";
import { SnapshotsClient } from "../containerd/snapshots.ts";
import { namespaceOfCall, type SnapshotServer, serveSnapshots } from "./service.ts";
import { Snapshotter } from "./snapshotter.ts";

async function serve(directory: string): Promise<SnapshotServer> {
  const snapshotter = await Snapshotter.open({ root: `${directory}/root`, mounter: new TestMounter() });
  const server = await serveSnapshots(snapshotter, `${directory}/s.sock`, { log: quietLogger }).catch(
    async (error: unknown) => {
      // Its state stays locked until it is closed.
      await snapshotter[Symbol.asyncDispose]();
      throw error;
    },
  );
  return {
    address: server.address,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await snapshotter[Symbol.asyncDispose]();
    },
  };
}

test.each([
  ["k8s.io", "k8s.io"],
  ["k8s.io, k8s.io", "k8s.io"],
  ["", undefined],
  [undefined, undefined],
])("namespaceOfCall() of %j is %j", (value, namespace) => {
  const header = new Headers(value === undefined ? {} : { "containerd-namespace": value });
  expect(namespaceOfCall(header)).toBe(namespace);
});

testSnapshotter("the gRPC service", async () => {
  const directory = await mkdtemp("/tmp/nt-grpc-");
  const server = await serve(directory);
  return remoteSnapshotter(server.address, "nydus", async () => {
    await server[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });
});

testSnapshotter("containerd with our proxy plugin", async () => {
  const directory = await mkdtemp("/tmp/nt-proxy-");
  const server = await serve(directory);
  const containerd = await startContainerd({
    directory: `${directory}/c`,
    snapshotters: { nydus: server.address },
  });
  return remoteSnapshotter(containerd.address, "nydus", async () => {
    await containerd[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });
});

// The judge of the suite itself: what it asks for is what containerd's own snapshotter does.
testSnapshotter("containerd's overlayfs", async () => {
  const containerd = await startContainerd({ directory: await mkdtemp("/tmp/nt-overlayfs-") });
  return remoteSnapshotter(containerd.address, "overlayfs", async () => {
    await containerd[Symbol.asyncDispose]();
  });
});

test("serveSnapshots() lists more than flow control lets through at once, to containerd's collector", async () => {
  const directory = await mkdtemp("/tmp/nt-many-");
  {
    await using server = await serve(directory);
    await using containerd = await startContainerd({
      directory: `${directory}/c`,
      snapshotters: { nydus: server.address },
    });
    await using client = new ContainerdClient({ address: containerd.address, namespace: "default" });
    const nydus = new SnapshotsClient(client, "nydus");
    const labels = { "containerd.io/gc.root": "t", "containerd.io/snapshot/long": "y".repeat(3900) };
    const prepare = (i: number): Promise<unknown> => nydus.prepare(`k${i}`, "", { labels });
    for (let at = 0; at < 500; at += 25)
      await Promise.all(Array.from({ length: 25 }, (_, i) => prepare(at + i)));
    await nydus.remove("k0"); // now the collector has something to look for
    await withLease(client, async () => {});
    expect(await nydus.list()).toHaveLength(499);
    const direct = remoteSnapshotter(server.address, "nydus", async () => {});
    expect(await direct.list([])).toHaveLength(499);
    await direct.close();
  }
  await rm(directory, { recursive: true });
});

test("serveSnapshots() makes a socket for root alone and refuses one that is in use", async () => {
  const directory = await mkdtemp("/tmp/nt-socket-");
  {
    await using server = await serve(directory);
    expect((await lstat(server.address)).mode & 0o777).toBe(0o600);
    await using other = await Snapshotter.open({ root: `${directory}/other`, mounter: new TestMounter() });
    await expect(serveSnapshots(other, server.address, { log: quietLogger })).rejects.toMatchObject({
      code: "busy",
    });
  }
  await Bun.write(`${directory}/s.sock`, "precious");
  await expect(serve(directory)).rejects.toMatchObject({ code: "exists" });
  await rm(`${directory}/s.sock`);
  // What a killed server leaves is replaced.
  const stale = createServer().listen(`${directory}/stale`);
  await once(stale, "listening");
  await rename(`${directory}/stale`, `${directory}/s.sock`);
  stale.close();
  await using server = await serve(directory);
  expect((await lstat(server.address)).isSocket()).toBe(true);
  await rm(directory, { recursive: true });
});
