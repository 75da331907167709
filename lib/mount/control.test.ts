import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { NydusError } from "../base/error.ts";
import { type ControlServer, controlApp, serveControl } from "./control.ts";
import { ControlClient } from "./control-client.ts";
import type { ImageMounts } from "./image-mounts.ts";
import { type MountRequest, type MountStatus, parseMountRequest } from "./mount-request.ts";

const request: MountRequest = {
  id: "a/b c",
  bootstrap: "/b/image.boot",
  mountpoint: "/m",
  source: { location: "host/app:1", credentials: { username: "u", password: "secret" } },
  driver: "auto",
};

/** Stands in for real mounts: what is tested is the way to them. */
function recorder(): { mounts: ImageMounts; asked: MountRequest[]; umounted: string[] } {
  const asked: MountRequest[] = [];
  const umounted: string[] = [];
  const mounts = {
    mount(one: MountRequest): Promise<MountStatus> {
      asked.push(one);
      return Promise.resolve({ id: one.id, reference: one.source.location } as MountStatus);
    },
    umount(id: string): Promise<boolean> {
      if (id === "busy") return Promise.reject(new NydusError("busy", 'Cannot unmount "busy": it is in use'));
      umounted.push(id);
      return Promise.resolve(id === request.id);
    },
    list: () => [],
  };
  return { mounts: mounts as unknown as ImageMounts, asked, umounted };
}

async function withServer(
  work: (client: ControlClient, state: ReturnType<typeof recorder>, server: ControlServer) => Promise<void>,
) {
  const directory = mkdtempSync(join(tmpdir(), "nydus-control-"));
  const state = recorder();
  const socket = join(directory, "control.sock");
  const ending = new AbortController();
  try {
    const server = serveControl(
      socket,
      controlApp(state.mounts, {
        stop: () => {},
        leave: () => {},
        controllers: { pid: process.pid, register: () => {}, release: () => {} },
        ending: ending.signal,
      }),
    );
    await using _server = server;
    await work(new ControlClient(socket), state, server).finally(() => ending.abort());
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test("ControlClient.mount() passes the whole request, and never gets credentials back", async () => {
  await withServer(async (client, { asked }) => {
    const status = await client.mount(request);
    expect(asked).toEqual([{ ...request, source: { ...request.source, plainHttp: false, insecure: false } }]);
    expect(JSON.stringify(status)).not.toContain("secret");
  });
});

test("ControlClient.umount() keeps the meaning of errors across the socket", async () => {
  await withServer(async (client, { umounted }) => {
    await client.umount(request.id);
    expect(umounted).toEqual([request.id]);
    await expect(client.umount("busy")).rejects.toMatchObject({
      code: "busy",
      message: 'Cannot unmount "busy": it is in use',
    });
    await expect(client.umount("none")).rejects.toMatchObject({ code: "not_found" });
  });
});

test("ControlClient.gone() hears of an upgrade that was asked for before anybody listened, once", async () => {
  await withServer(async (client) => {
    await client.upgrade(["/next"]);
    const heard: unknown[] = [];
    void client.gone((program) => heard.push(program)).catch(() => {});
    await expect.poll(() => heard).toEqual([["/next"]]);
    await client.upgrade(["/later"]);
    await expect.poll(() => heard).toEqual([["/next"], ["/later"]]);
  });
});

test("a mount is under way until it is answered; who watches is not", async () => {
  await withServer(async (client, { mounts }, server) => {
    const answer = Promise.withResolvers<MountStatus>();
    mounts.mount = () => answer.promise;
    const gone = client.gone();
    const mounting = client.mount(request);
    await expect.poll(() => server.underWay).toBe(1);
    answer.resolve({ id: request.id } as MountStatus);
    await mounting;
    expect(server.underWay).toBe(0);
    gone.catch(() => {});
  });
});

test("serveControl() lets only root in", async () => {
  await withServer(async (_client, _state, { socket }) => {
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    await Promise.resolve();
  });
});

test("ControlClient.list() fails with unavailable when nobody listens", async () => {
  await expect(new ControlClient("/nowhere/control.sock").list()).rejects.toMatchObject({
    code: "unavailable",
  });
});

test("parseMountRequest() refuses what is not a request", () => {
  const wrong: readonly (readonly [string, unknown])[] = [
    ["null", null],
    ["no id", { ...request, id: "" }],
    ["a relative mountpoint", { ...request, mountpoint: "m" }],
    ["a bootstrap with a NUL", { ...request, bootstrap: "/a\0b" }],
    ["no source", { ...request, source: undefined }],
    ["a number for a writable directory", { ...request, writable: 1 }],
  ];
  for (const [what, value] of wrong) {
    expect(() => parseMountRequest(value), what).toThrow(expect.objectContaining({ code: "usage" }));
  }
});
