/**
 * Nydus images beside ordinary ones: in one index, or referring to them. Whoever knows Nydus gets the one, everybody else
 * the other, under the same name.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Containerd, startNodeContainerd } from "./support/containerd.ts";
import { startDockerRegistry } from "./support/docker-registry.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

interface Pulled {
  readonly nydus: boolean;
  readonly digest: string;
}

describe("a Nydus image beside an ordinary one", () => {
  let place: Workspace;
  let containerd: Containerd;
  /** The first has the referrers API, the second does not. */
  let registries: readonly [string, string];

  const pull = async (...words: string[]): Promise<Pulled> => {
    const flags = ["--json", "--containerd-address", containerd.address];
    return JSON.parse((await place.tool(["pull", ...flags, ...words])).stdout) as Pulled;
  };
  const hello = async (image: string, id: string, snapshotter = "nydus"): Promise<string> => {
    const words = ["run", "--rm", "--snapshotter", snapshotter, image, id, "/bin/echo", "hello"];
    return (await containerd.ctr(words)).stdout;
  };

  beforeAll(async () => {
    place = await openWorkspace();
    const docker = await startDockerRegistry(place.path("docker"));
    place.defer(() => docker[Symbol.asyncDispose]());
    registries = [(await startEmbeddedRegistry(place)).host, docker.host];
    await writeLayout(place.path("source"), [await tarOfMachine(await shellFiles())]);
    for (const host of registries)
      await place.tool(["pull", `oci:${place.path("source")}:t`, `${host}/app:1`]);
    containerd = await startNodeContainerd(place);
    await place.startSnapshotter();
  }, 120_000);

  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
  });

  test("one index: we run the Nydus image, others get the ordinary one, and again changes nothing", async () => {
    const [host] = registries;
    const both = `${host}/app:both`;
    await place.tool(["pull", `${host}/app:1`, both]);
    await place.tool(["convert", "--merge-platform", both, both]);
    const raw = async (): Promise<{ manifests: { digest: string; artifactType?: string }[] }> =>
      JSON.parse(
        (await run("skopeo", ["inspect", "--raw", "--tls-verify=false", `docker://${both}`])).stdout,
      );
    const first = await raw();
    expect(first.manifests.map(({ artifactType }) => artifactType)).toEqual([
      undefined,
      "application/vnd.nydus.image.manifest.v1+json",
    ]);
    // What is converted is the ordinary image of it, and the Nydus image in it is replaced.
    await place.tool(["convert", "--merge-platform", both, both]);
    expect(await raw()).toEqual(first);

    expect(await pull(both)).toMatchObject({ nydus: true, digest: first.manifests[1]?.digest });
    expect(await hello(both, "both")).toBe("hello\n");
    await containerd.ctr(["image", "rm", "--sync", both]);
    // A snapshotter that knows no Nydus images would stop at their blobs.
    await containerd.ctr(["image", "pull", "--plain-http", "--snapshotter", "overlayfs", both]);
    expect(await hello(both, "plain", "overlayfs")).toBe("hello\n");
    await containerd.ctr(["image", "rm", "--sync", both]);
  });

  test.each([
    ["with", 0],
    ["without", 1],
  ])(
    "a referrer, at a registry %s the API for them: it runs in the place of the image, if asked",
    async (_, i) => {
      const host = registries[i] ?? "";
      const [source, converted] = [`${host}/app:1`, `${host}/app:1-nydus`];
      await place.tool(["convert", "--with-referrer", source, converted]);
      const ordinary = await pull(source);
      expect(ordinary.nydus).toBe(false);
      await containerd.ctr(["image", "rm", "--sync", source]);

      const found = await pull("--referrers", source);
      expect(found.nydus).toBe(true);
      expect(found.digest).not.toBe(ordinary.digest);
      expect((await containerd.ctr(["image", "ls"])).stdout).toContain(`${source} `);
      expect(await hello(source, `referrer-${i}`)).toBe("hello\n");
      await containerd.ctr(["image", "rm", "--sync", source]);
    },
  );

  test("mounts a referrer too, and takes the image itself where there is none", async () => {
    const [host] = registries;
    const mountpoint = await place.mount(`${host}/app:1`, { flags: ["--referrers"] });
    const status = JSON.parse(
      (await place.tool(["status", "--json", "--run-dir", place.path("run")])).stdout,
    ) as { mounts: { mountpoint: string; blobs: string[] }[] };
    const { blobs = [] } = status.mounts.find((mount) => mount.mountpoint === mountpoint) ?? {};
    const manifest = (
      await run("skopeo", ["inspect", "--raw", "--tls-verify=false", `docker://${host}/app:1-nydus`])
    ).stdout;
    for (const blob of blobs) expect(manifest).toContain(blob);
    await place.umount(mountpoint);
    await place.tool(["pull", `oci:${place.path("source")}:t`, `${host}/alone:1`]);
    expect(await pull("--referrers", `${host}/alone:1`)).toMatchObject({ nydus: false });
    await containerd.ctr(["image", "rm", "--sync", `${host}/alone:1`]);
  });

  test("refuses to refer to what is not in the target's repository", async () => {
    const [, host] = registries;
    const words = ["convert", "--with-referrer", `${host}/app:1`, `${host}/elsewhere:1`];
    const { code, stderr } = await place.tool(words, { mayFail: true });
    expect(code).toBe(2);
    expect(stderr).toMatch(/^nydus-tool: Cannot refer to image "sha256:.*: it is not there; /);
  });
});
