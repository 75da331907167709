/**
 * A whole node for churn: registry, snapshotter, containerd, a few images that share layers. Each of its processes can
 * be killed and started again.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { mkdtemp, readdir } from "node:fs/promises";
import { type Containerd, startNodeContainerd } from "./containerd.ts";
import { holdersOf } from "./holders.ts";
import { endLostContainers } from "./lost-containers.ts";
import { shellFiles, tarOfMachine } from "./machine-files.ts";
import { writeLayout } from "./oci-layout.ts";
import { type Output, run, type Service, startService, waitFor } from "./process.ts";
import { Random } from "./random.ts";
import { tarOf } from "./tar-builder.ts";
import { TOOL, type Workspace } from "./workspace.ts";

const MIB = 2 ** 20;
const NAMES = ["red", "green", "blue"] as const;

/** Seconds that any one command may take. */
const PATIENCE = 90;

export interface ChurnImage {
  readonly reference: string;
  /** SHA-256 of /data in it. */
  readonly sum: string;
  /** Whether its data stays at the registry. */
  readonly lazy: boolean;
}

export class ChurnNode {
  readonly place: Workspace;
  readonly images: readonly ChurnImage[];
  readonly containerd: Containerd;
  readonly #registryDirectory: string;
  readonly #port: string;
  #registry: Service;
  #snapshotter: Service | undefined;
  #starts = 0;

  private constructor(
    place: Workspace,
    parts: { images: readonly ChurnImage[]; containerd: Containerd; directory: string; host: string },
    registry: Service,
  ) {
    this.place = place;
    this.images = parts.images;
    this.containerd = parts.containerd;
    this.#registryDirectory = parts.directory;
    this.#port = parts.host.split(":")[1] ?? "";
    this.#registry = registry;
    place.defer(() => this.#registry.stop());
    place.defer(async () => this.#snapshotter?.stop());
  }

  static async start(place: Workspace): Promise<ChurnNode> {
    const directory = await mkdtemp(place.path("registry-"));
    const registry = serveRegistry(place, directory, "0");
    let host = "";
    const announced = async (): Promise<boolean> => {
      host = /^127\.0\.0\.1:\d+$/m.exec(await place.log("registry"))?.[0] ?? "";
      return host !== "";
    };
    await waitFor("the registry", announced, { service: registry });
    const images = await makeImages(place, host);
    const containerd = await startNodeContainerd(place);
    place.defer(() => containerd[Symbol.asyncDispose]());
    const node = new ChurnNode(place, { images, containerd, directory, host }, registry);
    await node.startSnapshotter();
    return node;
  }

  async startSnapshotter(): Promise<void> {
    const name = `snapshotter-${++this.#starts}`;
    const { place } = this;
    this.#snapshotter = startService(
      TOOL,
      [
        ...["snapshotter", "serve", "--root", place.path("snapshots"), "--address", place.path("s.sock")],
        ...["--containerd-address", this.containerd.address, "--run-dir", place.path("run")],
        ...["--status", `unix:${place.path("status.sock")}`, "--cache-grace", "1s", "--supervised"],
      ],
      { log: place.path(`${name}.log`) },
    );
    const serving = async (): Promise<boolean> => (await place.log(name)).includes("status at");
    await waitFor(`the snapshotter (${name})`, serving, { service: this.#snapshotter });
  }

  async stopSnapshotter(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.#snapshotter?.stop(signal);
  }

  async restartRegistry(signal: NodeJS.Signals): Promise<void> {
    await this.#registry.stop(signal);
    this.#registry = serveRegistry(this.place, this.#registryDirectory, this.#port);
  }

  async restartContainerd(signal: NodeJS.Signals): Promise<void> {
    await this.containerd.stop(signal);
    await this.containerd.start();
  }

  /** Ids of the processes that serve mounts. */
  async servers(): Promise<number[]> {
    const words = ["-f", `mount-server --run-dir ${this.place.path("run")}`];
    const { stdout } = await run("pgrep", words, { mayFail: true });
    return stdout.trim().split("\n").filter(Boolean).map(Number);
  }

  async killServers(): Promise<void> {
    for (const pid of await this.servers()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {} // it has ended
    }
  }

  /** Fails the test when it hangs; any other failure is the caller's to judge. */
  async #limited(program: string, ...words: string[]): Promise<Output> {
    const limit = ["--kill-after=5", `${PATIENCE}`];
    const started = performance.now();
    const output = await run("timeout", [...limit, program, ...words], { mayFail: true });
    // ctr passes on the code of what it ran in a container: 137, if another client removed that container.
    const timedOut = performance.now() - started >= PATIENCE * 1000;
    if (!timedOut || (output.code !== 124 && output.code !== 137)) return output;
    throw new Error(`Cannot wait for "${[program, ...words].join(" ")}": nothing came in ${PATIENCE} s`);
  }

  ctr(...args: string[]): Promise<Output> {
    return this.#limited("ctr", "--address", this.containerd.address, ...args);
  }

  pull({ reference }: ChurnImage): Promise<Output> {
    const words = ["--containerd-address", this.containerd.address, "--snapshotter", "nydus", reference];
    return this.#limited(TOOL, "pull", ...words);
  }

  /** A container's answer to one question, and then it goes. */
  sumIn({ reference }: ChurnImage, id: string): Promise<Output> {
    return this.ctr("run", "--rm", "--snapshotter", "nydus", reference, id, "/bin/sha256sum", "/data");
  }

  async containers(): Promise<string[]> {
    return lines(await this.ctr("container", "ls", "-q"));
  }

  async removeContainer(id: string): Promise<void> {
    await this.ctr("task", "rm", "--force", id);
    await this.ctr("container", "rm", id);
    await this.ctr("snapshots", "--snapshotter", "nydus", "rm", id);
  }

  /** Containers that containerd forgot when it was killed. Until they end, their root stays mounted. */
  async endLostContainers(): Promise<void> {
    await endLostContainers(this.containerd.directory);
  }

  /** What a client holds that was cut off: containerd would let it go after a day. */
  async removeLeases(): Promise<void> {
    for (const id of lines(await this.ctr("leases", "ls", "-q")))
      await this.ctr("leases", "rm", "--sync", id);
  }

  /** Names as containerd knows them, of all snapshots on our snapshotter. */
  async containerdsView(): Promise<string[]> {
    const listed = await this.containerd.ctr(["snapshots", "--snapshotter", "nydus", "ls"]);
    return lines(listed)
      .slice(1)
      .map((line) => line.split(/\s+/)[0] ?? "")
      .sort();
  }

  /** The same, as the snapshotter knows them ("default/7/NAME", or a chain ID alone). */
  async ourView(): Promise<string[]> {
    const words = ["status", "--json", "--address", `unix:${this.place.path("status.sock")}`];
    const { snapshots } = JSON.parse((await this.place.tool(words)).stdout) as {
      snapshots: { name: string }[];
    };
    // A key of a layer that is being unpacked has a space in it, where containerd's list ends.
    return snapshots.map(({ name }) => name.replace(/^default\/\d+\//, "").replace(/ .*/, "")).sort();
  }

  /** What is left of the snapshotter on this machine, besides its metadata. */
  async leftovers(): Promise<string[]> {
    const below = async (...names: string[]): Promise<string[]> =>
      (await readdir(this.place.path(...names)).catch(() => [])).map((name) => [...names, name].join("/"));
    const kinds = ["blobs", "checked", "chunk-info", "erofs", "traces", "bootstraps"];
    const cached = await Promise.all(kinds.map((kind) => below("snapshots", "cache", kind)));
    const held = (cached[0] ?? []).map(async (blob) => {
      const holders = await holdersOf(this.place.path(blob, "data"), this.place.directory);
      return holders.map((holder) => `${blob}: ${holder}`);
    });
    return [
      ...(await below("snapshots", "snapshots")),
      ...(await below("snapshots", "trash")),
      ...cached.flat(),
      ...(await Promise.all(held)).flat(),
      ...this.place.mounts().filter((point) => !point.startsWith(this.place.path("c/"))),
    ];
  }
}

function serveRegistry(place: Workspace, directory: string, port: string): Service {
  const words = ["registry", "serve", "--address", `127.0.0.1:${port}`, directory];
  return startService(TOOL, words, { log: place.path("registry.log") });
}

/** One base layer for all, and a layer of each image's own. The last one is an ordinary image. */
async function makeImages(place: Workspace, host: string): Promise<ChurnImage[]> {
  const shell = await tarOfMachine(await shellFiles());
  const images: ChurnImage[] = [];
  for (const [i, name] of [...NAMES, "plain"].entries()) {
    const data = new Random(i).noise(MIB + i * 70_000);
    await writeLayout(place.path(name), [shell, tarOf([{ path: "data", type: "file", data }])]);
    const reference = `${host}/${name}:1`;
    const lazy = name !== "plain";
    await place.tool([lazy ? "convert" : "pull", `oci:${place.path(name)}:t`, reference]);
    images.push({ reference, lazy, sum: createHash("sha256").update(data).digest("hex") });
  }
  return images;
}

function lines({ stdout }: Output): string[] {
  return stdout.trim().split("\n").filter(Boolean);
}
