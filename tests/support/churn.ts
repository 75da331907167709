/**
 * Everything at once, in random order: images come and go, containers start, read, write and end, and every process of
 * the node is killed and started again. What is asked in the middle of it may fail, but may never be wrong; what is
 * asked when all is quiet again must work.
 *
 * @module
 */
import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { ChurnImage, ChurnNode } from "./churn-node.ts";
import { type Output, waitFor } from "./process.ts";
import type { Random } from "./random.ts";

/** Clients that work side by side. */
const CLIENTS = 3;
/** Containers that stay while others come and go. */
const LONG = 3;

export interface ChurnCounts {
  pulls: number;
  runs: number;
  removals: number;
  kills: number;
  /** Answers that were checked. */
  answers: number;
}

export class Churn {
  readonly counts: ChurnCounts = { pulls: 0, runs: 0, removals: 0, kills: 0, answers: 0 };
  readonly #node: ChurnNode;
  readonly #random: Random;
  readonly #long = new Map<string, ChurnImage>();
  #next = 0;

  constructor(node: ChurnNode, random: Random) {
    this.#node = node;
    this.#random = random;
  }

  /** Rounds of trouble, each followed by a look at the whole, until the time is over. */
  async run(seconds: number): Promise<void> {
    const end = performance.now() + seconds * 1000;
    do {
      const until = Math.min(performance.now() + this.#random.between(4000, 9000), end);
      const clients = Array.from({ length: CLIENTS }, () => this.#client(until));
      await Promise.all([...clients, this.#trouble(until)]);
      await this.#settle();
    } while (performance.now() < end);
  }

  async #client(until: number): Promise<void> {
    while (performance.now() < until) {
      const image = this.#random.pick(this.#node.images);
      const step = this.#random.below(10);
      if (step < 3) await this.#pull(image);
      else if (step < 7) await this.#short(image);
      else if (step === 7) await this.#startLong(image);
      else if (step === 8) await this.#askLong();
      else await this.#remove(image);
    }
  }

  async #pull(image: ChurnImage): Promise<void> {
    await this.#node.pull(image);
    this.counts.pulls++;
  }

  async #short(image: ChurnImage): Promise<void> {
    let answer = await this.#node.sumIn(image, this.#id());
    if (answer.code !== 0) {
      await this.#pull(image);
      answer = await this.#node.sumIn(image, this.#id());
    }
    this.#right(answer, image);
    this.counts.runs++;
  }

  async #startLong(image: ChurnImage): Promise<void> {
    if (this.#long.size >= LONG) return await this.#endLong();
    const id = this.#id();
    const words = ["run", "--detach", "--snapshotter", "nydus", image.reference, id, "/bin/sleep", "3600"];
    if ((await this.#node.ctr(...words)).code === 0) this.#long.set(id, image);
    this.counts.runs++;
  }

  async #askLong(): Promise<void> {
    const [id, image] = this.#random.pick([...this.#long, [undefined, undefined]]);
    if (id === undefined || image === undefined) return;
    this.#right(await this.#ask(id), image);
  }

  #ask(id: string): Promise<Output> {
    return this.#node.ctr("task", "exec", "--exec-id", this.#id(), id, "/bin/sha256sum", "/data");
  }

  async #endLong(): Promise<void> {
    const [id] = this.#random.pick([...this.#long.keys()].map((key) => [key]));
    if (id === undefined) return;
    this.#long.delete(id);
    await this.#node.removeContainer(id);
  }

  async #remove({ reference }: ChurnImage): Promise<void> {
    const sync = this.#random.chance(0.5) ? ["--sync"] : [];
    await this.#node.ctr("image", "rm", ...sync, reference);
    this.counts.removals++;
  }

  /** Failing is allowed at any time, a wrong answer never. No answer is what ctr gives when its containerd is killed. */
  #right({ code, stdout }: Output, { sum, reference }: ChurnImage): void {
    if (code !== 0 || stdout === "") return;
    expect(stdout.trim(), reference).toBe(`${sum}  /data`);
    this.counts.answers++;
  }

  #id(): string {
    return `c${++this.#next}`;
  }

  async #trouble(until: number): Promise<void> {
    const node = this.#node;
    const troubles: (() => Promise<void>)[] = [
      async () => {
        await node.stopSnapshotter("SIGKILL");
        await node.startSnapshotter();
      },
      async () => {
        await node.stopSnapshotter("SIGTERM");
        await node.startSnapshotter();
      },
      () => node.killServers(),
      () => node.restartContainerd(this.#random.pick(["SIGKILL", "SIGTERM"])),
      () => node.restartRegistry(this.#random.pick(["SIGKILL", "SIGTERM"])),
      () => writeFile("/proc/sys/vm/drop_caches", "3"),
      () => this.#killBoth(),
    ];
    while (performance.now() < until) {
      await sleep(this.#random.between(300, 3000));
      await this.#random.pick(troubles)();
      this.counts.kills++;
    }
  }

  /** Without anybody left to keep them, file systems of living containers are gone: these containers cannot go on. */
  async #killBoth(): Promise<void> {
    const { killServers, stopSnapshotter } = this.#node;
    await Promise.all([stopSnapshotter.call(this.#node, "SIGKILL"), killServers.call(this.#node)]);
    await this.#node.startSnapshotter();
    const lost = [...this.#long.keys()];
    this.#long.clear();
    for (const id of lost) await this.#node.removeContainer(id);
  }

  /** Quiet again: everything that is asked works, and containerd and the snapshotter agree about what there is. */
  async #settle(): Promise<void> {
    const node = this.#node;
    // containerd backs off for a moment when it found nobody behind the socket.
    const dialled = async (): Promise<boolean> => {
      const { code } = await node.ctr("snapshots", "--snapshotter", "nydus", "ls");
      return code === 0;
    };
    await waitFor("containerd to dial again", dialled);
    for (const [id, image] of this.#long)
      this.#right(await this.#soon(`container ${id}`, () => this.#ask(id)), image);
    for (const id of await node.containers()) if (!this.#long.has(id)) await node.removeContainer(id);
    const image = this.#random.pick(node.images);
    await this.#soon(`pull ${image.reference}`, () => node.pull(image));
    this.#right(await this.#soon(`run ${image.reference}`, () => node.sumIn(image, this.#id())), image);
    await expect
      .poll(async () => ({ containerd: await node.containerdsView(), ours: await this.#collected() }), {
        timeout: 30_000,
        interval: 300,
      })
      .toSatisfy(({ containerd, ours }) => containerd.join() === ours.join());
  }

  /** Asked until it works: repairs that are under way may take a moment. */
  async #soon(what: string, ask: () => Promise<Output>): Promise<Output> {
    let answer: Output | undefined;
    const works = async (): Promise<boolean> => {
      answer = await ask();
      return answer.code === 0 && answer.stdout !== "";
    };
    await waitFor(what, works).catch(() => {});
    if (answer?.code === 0 && answer.stdout !== "") return answer;
    throw new Error(`Cannot go on after the trouble: ${what}: ${answer?.stderr}`);
  }

  /** Ours, once containerd's collector has been there: it takes what containerd itself has forgotten. */
  async #collected(): Promise<string[]> {
    await this.#node.ctr("content", "prune", "references");
    return await this.#node.ourView();
  }

  /** Everything is removed, and then nothing is left. */
  async end(): Promise<void> {
    const node = this.#node;
    for (const id of await node.containers()) await node.removeContainer(id);
    await node.endLostContainers();
    await node.removeLeases();
    for (const { reference } of node.images) await node.ctr("image", "rm", "--sync", reference);
    await expect.poll(() => this.#collected(), { timeout: 30_000, interval: 300 }).toEqual([]);
    expect(await node.containerdsView()).toEqual([]);
    await expect.poll(() => node.leftovers(), { timeout: 30_000, interval: 300 }).toEqual([]);
    await node.stopSnapshotter();
    await expect.poll(() => node.servers(), { timeout: 15_000 }).toEqual([]);
  }
}
