/**
 * A private registry whose tokens live for a second: containers read from it through every source of credentials, while
 * each of the two processes is killed, and no secret is found anywhere afterwards.
 */
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ContainerdClient } from "../lib/containerd/client.ts";
import { ImageService } from "../lib/containerd/gen/cri_pb.ts";
import { SnapshotsClient } from "../lib/containerd/snapshots.ts";
import type { Containerd } from "./support/containerd.ts";
import { startCriContainerd } from "./support/cri.ts";
import { type FaultRegistry, startFaultRegistry } from "./support/fault-registry.ts";
import { type KubeApi, startKubeApi } from "./support/kube-api.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run, waitFor } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { mounted } from "./support/snapshot-mounts.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;
const FILES = 8;
const USER = "robot";

describe("a private registry", () => {
  let place: Workspace;
  let containerd: Containerd;
  let registry: FaultRegistry;
  let kubernetes: KubeApi;
  let client: ContainerdClient;
  let snapshots: SnapshotsClient;
  /** The password that is accepted now; all that ever were, to be searched for. */
  let password = "";
  const passwords: string[] = [];
  let containers = 0;

  const accept = (secret: string): void => {
    passwords.push(secret);
    password = secret;
    registry.revokeTokens();
  };
  const imageOf = (name: string): string => `${registry.host}/${name}:1`;

  beforeAll(async () => {
    place = await openWorkspace();
    registry = await startFaultRegistry({ root: place.path("registry") });
    place.defer(() => registry[Symbol.asyncDispose]());
    await mkdir(place.path("kube"));
    kubernetes = await startKubeApi(place.path("kube"));
    place.defer(() => kubernetes[Symbol.asyncDispose]());
    kubernetes.tokens.add("kube-api-token");
    for (const [seed, name] of ["pulled", "labelled", "provided", "clustered"].entries()) {
      const random = new Random(100 + seed);
      const files = Array.from({ length: FILES }, (_, i) => ({
        path: `file-${i}`,
        type: "file" as const,
        data: random.noise(2 * MIB),
      }));
      await writeLayout(place.path(name), [tarOf(files)]);
      await place.tool(["convert", `oci:${place.path(name)}:t`, imageOf(name)]);
    }
    await writeLayout(place.path("ordinary"), [
      tarOf([{ path: "file", type: "file", data: Buffer.from("data") }]),
    ]);
    await place.tool(["pull", `oci:${place.path("ordinary")}:t`, imageOf("ordinary")]);
    await place.tool([
      "convert",
      "--with-referrer",
      imageOf("ordinary"),
      `${registry.host}/ordinary:1-nydus`,
    ]);
    registry.tokenLifetime = 1000;
    registry.accepts = (user, secret) => user === USER && secret === password;
    await writeProvider();
    await startSnapshotter();
    containerd = await startCriContainerd(place, { pause: imageOf("pulled") });
    client = new ContainerdClient({ address: containerd.address, namespace: "k8s.io" });
    snapshots = new SnapshotsClient(client, "nydus");
  }, 120_000);

  afterAll(async () => {
    await client?.[Symbol.asyncDispose]();
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
  });

  /** A program that answers with what is in a file, for one repository. */
  async function writeProvider(): Promise<void> {
    await mkdir(place.path("secret/bin"), { recursive: true });
    const version = "credentialprovider.kubelet.k8s.io/v1";
    const provider = { name: "login", apiVersion: version, defaultCacheDuration: "2s" };
    const match = { matchImages: [`${registry.host}/provided`] };
    await writeFile(
      place.path("secret/providers.json"),
      JSON.stringify({
        kind: "CredentialProviderConfig",
        apiVersion: "kubelet.config.k8s.io/v1",
        providers: [{ ...provider, ...match }],
      }),
    );
    const login = place.path("secret/bin/login");
    await writeFile(login, `#!/bin/sh\ncat > ${place.path("asked")}\ncat ${place.path("secret/answer")}\n`);
    await chmod(login, 0o755);
  }

  const provide = (secret: string): Promise<void> =>
    writeFile(
      place.path("secret/answer"),
      JSON.stringify({
        kind: "CredentialProviderResponse",
        apiVersion: "credentialprovider.kubelet.k8s.io/v1",
        cacheKeyType: "Image",
        auth: { [registry.host]: { username: USER, password: secret } },
      }),
    );

  async function startSnapshotter(): Promise<void> {
    const config = {
      "current-context": "c",
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      clusters: [
        {
          name: "c",
          cluster: {
            server: kubernetes.url,
            "certificate-authority-data": Buffer.from(kubernetes.ca).toString("base64"),
          },
        },
      ],
      users: [{ name: "u", user: { token: "kube-api-token" } }],
    };
    await writeFile(place.path("secret/kubeconfig"), JSON.stringify(config));
    await place.startSnapshotter(
      ...["--status", `unix:${place.path("status.sock")}`, "--log-level", "debug"],
      ...["--credential-provider-config", place.path("secret/providers.json")],
      ...["--credential-provider-bin-dir", place.path("secret/bin")],
      ...["--kubeconfig", place.path("secret/kubeconfig"), "--referrers"],
    );
  }

  /** As a kubelet that was told to pull through the snapshotter's socket. */
  async function kubeletPulls(name: string): Promise<void> {
    await using kubelet = new ContainerdClient({ address: place.path("s.sock"), namespace: "k8s.io" });
    const request = { image: { image: imageOf(name) }, auth: { username: USER, password } };
    await kubelet.call("pull", () => kubelet.service(ImageService).pullImage(request));
  }

  /** containerd's own client, whose credentials nobody shows us. */
  async function clientPulls(name: string): Promise<void> {
    const flags = ["--containerd-address", containerd.address, "--namespace", "k8s.io", "--plain-http"];
    await mkdir(place.path("docker"), { recursive: true });
    const auth = Buffer.from(`${USER}:${password}`).toString("base64");
    const config = JSON.stringify({ auths: { [registry.host]: { auth } } });
    await writeFile(place.path("docker/config.json"), config);
    await place.tool(["pull", ...flags, "--snapshotter", "nydus", imageOf(name)], {
      env: { DOCKER_CONFIG: place.path("docker") },
    });
    await writeFile(place.path("docker/config.json"), "{}");
  }

  async function topOf(name: string): Promise<string> {
    const all = await snapshots.list();
    const top = all.find(
      ({ kind, labels }) =>
        kind === "committed" &&
        labels["containerd.io/snapshot/cri.image-ref"] === imageOf(name) &&
        "containerd.io/snapshot/nydus-bootstrap" in labels,
    );
    return top?.name ?? "";
  }

  /** Reads files one after another in a container's place; each is on its way for the first time. */
  async function reads(
    name: string,
    work: (read: (file: number) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const key = `container-${++containers}`;
    // Otherwise containerd's collector takes it: no container refers to it.
    const labels = { "containerd.io/gc.root": new Date().toISOString() };
    const mounts = await snapshots.prepare(key, await topOf(name), { labels });
    const random = new Random(100 + ["pulled", "labelled", "provided", "clustered"].indexOf(name));
    const contents = Array.from({ length: FILES }, () => random.noise(2 * MIB));
    await mounted(place.directory, mounts, (directory) =>
      work(async (file) => {
        const found = await readFile(`${directory}/file-${file}`).catch(async (cause: unknown) => {
          const log = await run("sh", ["-c", `cat ${place.path("run")}/*/mount-server.log`]);
          throw new Error(`Cannot read file ${file}: ${log.stdout}`, { cause });
        });
        expect(found.equals(contents[file] ?? Buffer.alloc(0))).toBe(true);
      }),
    );
    await snapshots.remove(key);
  }

  /** Longer than a token lives. */
  const later = (): Promise<unknown> => sleep(1100);
  /** Empty while nobody answers. */
  const status = async (path: string): Promise<string> => {
    const answer = await fetch(`http://x${path}`, { unix: place.path("status.sock") }).catch(() => undefined);
    return (await answer?.text()) ?? "";
  };
  const kill = async (which: "snapshotter" | "mount-server"): Promise<void> => {
    const pids: number[] = [];
    for (const pid of await place.processes())
      if ((await place.commandOf(pid)).includes(which)) pids.push(pid);
    expect(pids).toHaveLength(1);
    for (const pid of pids) process.kill(pid, "SIGKILL");
  };

  test("the kubelet's credentials are good for reads, also after either process is killed", async () => {
    accept("pull-secret-one");
    await kubeletPulls("pulled");
    const before = registry.tokens;
    await reads("pulled", async (read) => {
      for (const file of [0, 1]) {
        await read(file);
        await later();
      }
      expect(registry.tokens).toBeGreaterThan(before + 1);
      await kill("snapshotter");
      await read(2);
      await later();
      await read(3);
      await waitFor("the snapshotter to be back", async () => (await status("/metrics")) !== "");
      await kill("mount-server");
      await later();
      await read(4);
    });
    // A new mount by processes that were both started again.
    await reads("pulled", (read) => read(5));
  });

  test("a pull that fails leaves no credentials behind", async () => {
    const right = password;
    password = "wrong-pull-secret";
    registry.accepts = (user, secret) => user === USER && secret === right;
    await expect(kubeletPulls("labelled")).rejects.toThrow();
    password = right;
    passwords.push("wrong-pull-secret");
    await reads("pulled", (read) => read(6));
  });

  test("a pull through the kubelet's socket shows what containerd answers", async () => {
    await using kubelet = new ContainerdClient({ address: place.path("s.sock"), namespace: "k8s.io" });
    const { images } = await kubelet.service(ImageService).listImages({});
    expect(images.flatMap(({ repoTags }) => repoTags)).toEqual([imageOf("pulled")]);
    await expect(
      kubelet.service(ImageService).pullImage({ image: { image: `${registry.host}/absent:1` } }),
    ).rejects.toThrow();
  });

  test("the kubelet's credentials find the Nydus image that refers to an ordinary one", async () => {
    registry.clear();
    await kubeletPulls("ordinary");
    const layer = (await snapshots.list()).find(
      ({ labels }) => labels["containerd.io/snapshot/cri.image-ref"] === imageOf("ordinary"),
    );
    const digest = layer?.labels["containerd.io/snapshot/cri.layer-digest"];
    expect(digest).toBeDefined();
    const labels = { "containerd.io/gc.root": new Date().toISOString() };
    const mounts = await snapshots.prepare("ordinary", layer?.name ?? "", { labels });
    await mounted(place.directory, mounts, async (directory) => {
      expect(await readFile(`${directory}/file`, "utf8")).toBe("data");
    });
    await snapshots.remove("ordinary");
    expect(registry.reads.map((read) => read.digest)).not.toContain(digest);
  });

  test("a credential provider is asked, and again when its password changes", async () => {
    registry.accepts = (user, secret) => user === USER && secret === password;
    accept("provided-secret-one");
    await provide("provided-secret-one");
    await clientPulls("provided");
    await reads("provided", async (read) => {
      await read(0);
      accept("provided-secret-two");
      await provide("provided-secret-two");
      await read(1);
      await later();
      await read(2);
    });
    expect(JSON.parse(await readFile(place.path("asked"), "utf8"))).toMatchObject({
      image: `${registry.host}/provided`,
    });
  });

  test("a secret of the cluster is used, and its next version", async () => {
    const secret = (value: string) => ({ [registry.host]: { username: USER, password: value } });
    accept("cluster-secret-one");
    kubernetes.put("pull", secret("cluster-secret-one"));
    await clientPulls("clustered");
    await reads("clustered", async (read) => {
      await read(0);
      kubernetes.put("pull", secret("cluster-secret-two"));
      accept("cluster-secret-two");
      await read(1);
    });
  });

  test("docker's configuration is read again for each login", async () => {
    accept("docker-secret");
    const auth = Buffer.from(`${USER}:docker-secret`).toString("base64");
    await mkdir(place.path("home/.docker"));
    const path = place.path("home/.docker/config.json");
    await writeFile(path, JSON.stringify({ auths: { [registry.host]: { auth } } }));
    await reads("clustered", (read) => read(2));
    await writeFile(path, "{}");
  });

  test("no secret is in any file, log, metric or page", async () => {
    const tokens = Array.from({ length: registry.tokens }, (_, i) => `Bearer token-${i + 1}`);
    const pairs = passwords.map((secret) => Buffer.from(`${USER}:${secret}`).toString("base64"));
    const secrets = [...passwords, ...pairs, ...tokens, "kube-api-token"];
    await writeFile(place.path("secret/patterns"), `${secrets.join("\n")}\n`);
    // Not into the images, whose mounts stay until containerd's collector runs: what they lack, nobody may fetch now.
    const skipped = ["secret", "devices", "registry"].flatMap((name) => ["-name", name, "-o"]);
    const files = [place.directory, "-xdev", "(", ...skipped.slice(0, -1), ")", "-prune", "-o", "-type", "f"];
    const search = [...files, "-exec", "grep", "-lF", "-f", place.path("secret/patterns"), "{}", "+"];
    // Files may vanish while it searches: the collector is at work.
    const found = async () => {
      const { stdout, stderr } = await run("find", search, { mayFail: true });
      return stdout + stderr;
    };
    await expect.poll(found, { timeout: 60_000, interval: 500 }).toBe("");
    for (const path of ["/", "/metrics", "/status", "/api/status"]) {
      const text = await status(path);
      expect(text).not.toBe("");
      for (const secret of secrets) expect(text).not.toContain(secret);
    }
    const commands = await Promise.all((await place.processes()).map((pid) => place.commandOf(pid)));
    for (const secret of secrets) expect(JSON.stringify(commands)).not.toContain(secret);
    // The search finds what is there.
    await writeFile(place.path("snapshots/control"), "provided-secret-two");
    expect(await found()).toBe(`${place.path("snapshots/control")}\n`);
  });
});
