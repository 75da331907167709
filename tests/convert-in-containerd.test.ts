/**
 * Converting where the image is: an index of Docker's images in containerd's content store becomes one of Nydus images
 * there, survives the garbage collector, runs at once although no registry has it, and can be pushed.
 *
 * The tests build on each other, in order.
 */
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Containerd, startNodeContainerd } from "./support/containerd.ts";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run, waitFor } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
/** No registry is there: whoever asked it would fail. */
const TARGET = "127.0.0.1:1/made/here:nydus";
const DATA = new Random(3).noise(3_000_000);

describe("an image in containerd", () => {
  let place: Workspace;
  let registry: EmbeddedRegistry;
  let containerd: Containerd;
  let source: string;

  const ctr = (...args: string[]) => containerd.ctr(args);
  const here = () => ["--containerd-address", containerd.address] as const;
  const blobs = async (): Promise<string[]> =>
    (await readdir(`${containerd.directory}/root/io.containerd.content.v1.content/blobs/sha256`)).toSorted();
  const content = async (digest: string): Promise<{ [key: string]: unknown }> =>
    JSON.parse((await ctr("content", "get", digest)).stdout);
  const targetOf = async (name: string): Promise<{ type: string; digest: string }> => {
    const line = (await ctr("images", "ls")).stdout.split("\n").find((text) => text.startsWith(`${name} `));
    const [, type = "", digest = ""] = line?.split(/\s+/) ?? [];
    return { type, digest };
  };

  beforeAll(async () => {
    place = await openWorkspace();
    registry = await startEmbeddedRegistry(place);
    source = `${registry.host}/app:1`;
    const shell = await tarOfMachine(await shellFiles());
    const noise = tarOf([{ path: "srv/data", type: "file", data: DATA }]);
    const other = tarOf([{ path: "srv/other", type: "file", data: new Random(4).noise(500_000) }]);
    const manifests = [];
    for (const [architecture, layers] of [
      ["amd64", [shell, noise]],
      ["arm64", [other, noise]],
    ] as const) {
      const layout = place.path(architecture);
      await writeLayout(layout, layers, { architecture });
      const to = `docker://${registry.host}/app:${architecture}`;
      const flags = ["--insecure-policy", "copy", "--dest-tls-verify=false", "--format", "v2s2"];
      await run("skopeo", [...flags, `oci:${layout}:t`, to]);
      manifests.push({ ...(await descriptorOf(architecture)), platform: { os: "linux", architecture } });
    }
    const body = JSON.stringify({ schemaVersion: 2, mediaType: DOCKER_LIST, manifests });
    const headers = { "content-type": DOCKER_LIST };
    const put = await fetch(`http://${registry.host}/v2/app/manifests/1`, { method: "PUT", body, headers });
    expect(put.status).toBe(201);
    await place.startSnapshotter();
    containerd = await startNodeContainerd(place);
    await ctr("content", "fetch", "--plain-http", "--all-platforms", source);
  }, 120_000);

  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
  });

  async function descriptorOf(tag: string) {
    const mediaType = "application/vnd.docker.distribution.manifest.v2+json";
    const answer = await fetch(`http://${registry.host}/v2/app/manifests/${tag}`, {
      headers: { accept: mediaType },
    });
    const bytes = await answer.bytes();
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    expect(answer.headers.get("content-type")).toBe(mediaType);
    return { mediaType, digest, size: bytes.byteLength };
  }

  test("every platform of Docker's index becomes a Nydus image of an OCI index", async () => {
    const words = ["convert", ...here(), "--all-platforms", `containerd:${source}`, `containerd:${TARGET}`];
    const { stdout } = await place.tool(words);
    expect(stdout).toContain(`ready to run: ctr run --snapshotter nydus ${TARGET}`);
    const target = await targetOf(TARGET);
    expect(target.type).toBe(OCI_INDEX);
    const index = await content(target.digest);
    expect(index).toMatchObject({
      mediaType: OCI_INDEX,
      manifests: [
        { platform: { os: "linux", architecture: "amd64" } },
        { platform: { os: "linux", architecture: "arm64" } },
      ],
    });
    expect(JSON.stringify(index)).not.toContain("docker");
  });

  test("what was made survives the collector, without what it was made from", async () => {
    const before = await blobs();
    await ctr("images", "rm", "--sync", source);
    const { digest } = await targetOf(TARGET);
    const wanted = new Set([digest]);
    const { manifests } = (await content(digest)) as { manifests: { digest: string }[] };
    for (const { digest: one } of manifests) {
      const { config, layers } = (await content(one)) as Record<"config", { digest: string }> & {
        layers: { digest: string }[];
      };
      for (const part of [one, config.digest, ...layers.map((layer) => layer.digest)]) wanted.add(part);
    }
    const left = async (): Promise<string[]> => (await blobs()).map((hex) => `sha256:${hex}`);
    await expect.poll(left, { timeout: 20_000 }).toEqual([...wanted].toSorted());
    expect(before.length).toBeGreaterThan(wanted.size);
    expect((await ctr("leases", "ls", "-q")).stdout).toBe("");
  });

  test("it runs at once: no registry has it", async () => {
    const script = "for f in /srv/*; do echo $f; done; read x < /srv/data || true";
    const start = ["run", "--rm", "--snapshotter", "nydus", TARGET];
    expect((await ctr(...start, "one", "/bin/sh", "-c", script)).stdout).toBe("/srv/data\n");
  });

  test("a container goes on reading when the image's name is gone", async () => {
    await ctr("images", "tag", TARGET, "127.0.0.1:1/made/here:second");
    await place.tool([
      "convert",
      ...here(),
      "--compressor",
      "lz4_block",
      `oci:${place.path("amd64")}:t`,
      "containerd:127.0.0.1:1/gone:1",
    ]);
    const script = "until test -e /go; do sleep 0.1; done; read x < /srv/data || true; echo read";
    const running = ctr(
      "run",
      "--rm",
      "--snapshotter",
      "nydus",
      "127.0.0.1:1/gone:1",
      "g",
      "/bin/sh",
      "-ec",
      script,
    );
    const exec = (command: string) =>
      containerd.ctr(["task", "exec", "--exec-id", "x", "g", "/bin/sh", "-c", command], { mayFail: true });
    await waitFor("the container", async () => (await exec("true")).code === 0);
    await ctr("images", "rm", "--sync", "127.0.0.1:1/gone:1");
    expect((await exec("echo > /go")).code).toBe(0);
    expect((await running).stdout).toBe("read\n");
    await ctr("images", "rm", "127.0.0.1:1/made/here:second");
  });

  test("ctr and skopeo push it", async () => {
    await ctr("images", "push", "--plain-http", `${registry.host}/pushed:ctr`, TARGET);
    await ctr("images", "export", "--all-platforms", place.path("image.tar"), TARGET);
    const archive = `oci-archive:${place.path("image.tar")}`;
    const flags = ["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"];
    await run("skopeo", [...flags, archive, `docker://${registry.host}/pushed:skopeo`]);
    for (const tag of ["ctr", "skopeo"])
      await place.tool(["check", "--data", `${registry.host}/pushed:${tag}`]);
  });

  test("other verbs take it from containerd", async () => {
    const image = `containerd:${TARGET}`;
    await place.tool(["check", ...here(), "--data", image]);
    await place.tool(["unpack", ...here(), image, place.path("unpacked")]);
    expect(Buffer.from(await Bun.file(place.path("unpacked/srv/data")).bytes()).equals(DATA)).toBe(true);
    const mountpoint = await place.mount(image, { flags: here() });
    expect(Buffer.from(await Bun.file(`${mountpoint}/srv/data`).bytes()).equals(DATA)).toBe(true);
    await place.umount(mountpoint);
    await place.tool(["pull", ...here(), image, `oci:${place.path("copy")}:t`]);
    await place.tool(["pull", ...here(), `oci:${place.path("copy")}:t`, "containerd:example.com/copied:1"]);
    expect((await targetOf("example.com/copied:1")).digest).toBe((await targetOf(TARGET)).digest);
    await ctr("images", "rm", "example.com/copied:1");
  });

  test("what a lazy pull did not fetch comes from the registry", async () => {
    const lazy = `${registry.host}/pushed:ctr`;
    await place.tool(["pull", ...here(), lazy]);
    await ctr("images", "rm", "--sync", TARGET);
    const { layers } = JSON.parse(
      (await place.tool(["inspect", "--json", ...here(), `containerd:${lazy}`])).stdout,
    );
    expect(layers).not.toEqual([]);
    await place.tool([
      "convert",
      ...here(),
      "--reverse",
      `containerd:${lazy}`,
      `oci:${place.path("reversed")}:t`,
    ]);
    await ctr("images", "rm", "--sync", lazy);
  });

  test("removed, it leaves nothing", async () => {
    await expect.poll(blobs, { timeout: 20_000 }).toEqual([]);
    await expect.poll(() => readdir(place.path("snapshots/snapshots")), { timeout: 20_000 }).toEqual([]);
  });
});
