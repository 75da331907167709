/**
 * Registries over TLS, mounted by the built program. Debian's docker-registry offers HTTP/2 by itself; the certificate's
 * authority is given as containerd's hosts.toml gives it.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { makeAuthority } from "./support/certificates.ts";
import { type Registry, startDockerRegistry } from "./support/docker-registry.ts";
import { fileNode, itemsOf, type Model, node } from "./support/model.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { tarOf } from "./support/tar-builder.ts";
import { startTcpFront, type TcpFront } from "./support/tcp-front.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const FILES = 24;

interface Scene {
  readonly place: Workspace;
  readonly registry: Registry;
  readonly front: TcpFront;
  /** Flags that make our program trust the front. */
  readonly hosts: readonly string[];
}

/** A registry, and a front before it; one of them speaks TLS. */
async function scene(offer: "http/1.1" | "h2"): Promise<Scene> {
  const place = await workspace();
  const authority = await makeAuthority(place.directory);
  const pair = await authority.issue("host", "subjectAltName=IP:127.0.0.1");
  const tls = { certificate: place.path("host.crt"), key: place.path("host.key") };
  const registry = await startDockerRegistry(place.path("registry"), offer === "h2" ? { tls } : {});
  place.defer(() => registry[Symbol.asyncDispose]());
  const front = await startTcpFront(registry.host, offer === "h2" ? undefined : pair);
  place.defer(() => front[Symbol.asyncDispose]());
  for (const host of [registry.host, front.host]) {
    const directory = place.path("hosts", `${host.replace(":", "_")}_`);
    await mkdir(directory, { recursive: true });
    const scheme = host === registry.host && offer !== "h2" ? "http" : "https";
    await writeFile(
      `${directory}/hosts.toml`,
      `server = "${scheme}://${host}"\nca = "${place.path("ca.crt")}"\n`,
    );
  }
  return { place, registry, front, hosts: ["--hosts-dir", place.path("hosts")] };
}

async function publish({ place, registry, hosts }: Scene): Promise<void> {
  await writeLayout(place.path("source"), [tarOf(itemsOf(manyFiles()))]);
  const source = `oci:${place.path("source")}:t`;
  await place.tool(["convert", ...hosts, source, `${registry.host}/a/image:1`]);
  await place.tool(["unpack", source, place.path("plain")]);
}

/** Large enough that reads are many requests. */
function manyFiles(): Model {
  const random = new Random(20);
  const files = Array.from(
    { length: FILES },
    (_, i) => [`f${i}`, fileNode(random.noise(1_200_000))] as const,
  );
  return new Map([["", node("dir", { implicit: true })], ...files]);
}

/** Reads all files, four at a time and in another order than they lie, from another process. */
async function readAll({ place, front, hosts }: Scene): Promise<void> {
  const mountpoint = await place.mount(`${front.host}/a/image:1`, { flags: hosts });
  const sums = (directory: string): Promise<{ stdout: string }> =>
    run("sh", ["-c", `cd "$0" && ls -r | xargs -n 1 -P 4 sha256sum | sort`, directory]);
  expect((await sums(mountpoint)).stdout).toBe((await sums(place.path("plain"))).stdout);
  await place.umount(mountpoint);
}

/** Blobs' reads that the registry logged, by the version of HTTP. */
async function blobReads({ log }: Registry): Promise<Record<string, number>> {
  const count: Record<string, number> = {};
  const text = await readFile(log, "utf8");
  for (const [, version = ""] of text.matchAll(/"GET \/v2\/a\/image\/blobs\/\S+ (HTTP\/[\d.]+)"/g))
    count[version] = (count[version] ?? 0) + 1;
  return count;
}

test("a registry that offers HTTP/2 is read by it, over few connections", async () => {
  const all = await scene("h2");
  await publish(all);
  await readAll(all);
  const { "HTTP/1.1": http1 = 0, "HTTP/2.0": http2 = 0 } = await blobReads(all.registry);
  expect(http2).toBeGreaterThan(0);
  expect(all.front.connections).toBeLessThan((http1 + http2) / 2);
});

test("connections of HTTP/2 that break cost a reader only time", async () => {
  const all = await scene("h2");
  await publish(all);
  all.front.breakAfter(3_000_000, 5);
  await readAll(all);
  expect(all.front.breaks).toBe(5);
});

test("a connection of HTTP/2 that hangs for all its readers costs them only time", async () => {
  const all = await scene("h2");
  await publish(all);
  all.front.hangAfter(8_000_000);
  await readAll(all);
  expect(all.front.hangs).toBe(true);
});

test("a registry that offers HTTP/1.1 alone over TLS is read by it", async () => {
  const all = await scene("http/1.1");
  await publish(all);
  await readAll(all);
  expect(Object.keys(await blobReads(all.registry))).toEqual(["HTTP/1.1"]);
});

test("a registry over HTTP/2 whose certificate nobody vouches for is refused", async () => {
  const { place, front } = await scene("h2");
  const words = ["inspect", "--hosts-dir", place.path("none"), `${front.host}/a/image:1`];
  const { code, stderr } = await place.tool(words, { mayFail: true });
  expect(code).toBe(13);
  expect(stderr).toContain(`the certificate of ${front.host} is not trusted`);
});
