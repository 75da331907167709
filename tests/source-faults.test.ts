/**
 * The fault matrix of sources: whatever a registry does to the reads of a mounted image, four readers that check the
 * whole tree see the right bytes, and nothing else.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { type FaultRegistry, type SeenRequest, startFaultRegistry } from "./support/fault-registry.ts";
import { expectedTree, itemsOf } from "./support/model.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { FAULTS, STUCK, troubledTree } from "./support/source-troubles.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace, workspace } from "./support/workspace.ts";

const READERS = 4;

let place: Workspace;
let registry: FaultRegistry;
/** The same content under another address. */
let mirror: FaultRegistry;
let image: string;
let blob: { readonly digest: string; readonly size: number };

beforeAll(async () => {
  place = await openWorkspace();
  await writeExpected(place.path("tree.jsonl"), expectedTree(troubledTree()));
  await writeLayout(place.path("source"), [tarOf(itemsOf(troubledTree()))]);
  const root = place.path("registry");
  [registry, mirror] = [await startFaultRegistry({ root }), await startFaultRegistry({ root })];
  image = `${registry.host}/faults/image:n`;
  await place.tool(["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, image]);
  const answer = await fetch(`${registry.url}/v2/faults/image/manifests/n`);
  const { layers } = (await answer.json()) as { layers: (typeof blob)[] };
  blob = layers[0] as typeof blob;
});
afterAll(async () => {
  for (const server of [registry, mirror]) await server[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});
beforeEach(() => {
  for (const server of [registry, mirror]) {
    server.fault = () => undefined;
    server.tokenLifetime = undefined;
  }
});

/** Mounts while all is well, then checks the whole tree with several readers at once. */
async function check(flags: readonly string[], begin: () => void): Promise<void> {
  const own = await workspace();
  const mountpoint = await own.mount(image, { flags });
  for (const server of [registry, mirror]) server.clear();
  begin();
  const reports = await Promise.all(
    Array.from({ length: READERS }, () => checkTree(place.path("tree.jsonl"), mountpoint)),
  );
  for (const report of reports) expect(report).toMatch(/, 0 differences$/);
  await own.umount(mountpoint);
}

function blobReads(server: FaultRegistry): readonly SeenRequest[] {
  return server.reads.filter(({ digest }) => digest === blob.digest);
}

describe("four readers see the right bytes", () => {
  test.each(FAULTS)("when each range is first answered by %s", async (_what, fault) => {
    let spoilt = 0;
    await check([], () => {
      registry.fault = ({ attempt, range }) => {
        if (range === undefined || attempt > 1) return undefined;
        spoilt++;
        return fault;
      };
    });
    expect(spoilt).toBeGreaterThan(0);
  });

  test.each(STUCK)("when every other request is answered by %s", async (_what, fault) => {
    let asked = 0;
    await check([], () => {
      registry.fault = () => (asked++ % 2 === 0 ? fault : undefined);
    });
    expect(asked).toBeGreaterThan(1);
  });

  test("when every blob is redirected to an address that expires after two reads", async () => {
    await check([], () => {
      registry.fault = () => ({ kind: "redirect", uses: 2 });
    });
  });

  test("when tokens end with the next read", async () => {
    registry.tokenLifetime = 60_000;
    await check([], () => {
      registry.fault = () => void registry.revokeTokens();
    });
    expect(registry.tokens).toBeGreaterThan(2);
  });

  test("when tokens live for a tenth of a second", async () => {
    registry.tokenLifetime = 100;
    await check([], () => {});
  });

  test("when the registry ignores ranges, with one download for all and one refused head a request", async () => {
    await check([], () => {
      registry.fault = () => ({ kind: "ignore-range" });
    });
    const whole = blobReads(registry).filter(({ sent }) => sent >= blob.size);
    // What the server hands to its socket it counts as sent, also of answers that are given up at their head.
    expect(whole.length).toBeLessThanOrEqual(2 + 8);
  });
});

describe("four readers see the right bytes from the registry", () => {
  async function withMirror(): Promise<string[]> {
    const own = await workspace();
    const directory = own.path("hosts", `${registry.host.replace(":", "_")}_`);
    await mkdir(directory, { recursive: true });
    await writeFile(`${directory}/hosts.toml`, `[host."${mirror.url}"]\n`);
    return ["--hosts-dir", own.path("hosts")];
  }

  test.each([...FAULTS, ...STUCK])("when a mirror always answers with %s", async (_what, fault) => {
    await check(await withMirror(), () => {
      mirror.fault = () => fault;
    });
    expect(blobReads(mirror).length).toBeGreaterThan(0);
    if (fault.kind !== "redirect") expect(blobReads(registry).length).toBeGreaterThan(0);
  });

  test("never, while the mirror is well", async () => {
    await check(await withMirror(), () => {});
    expect(blobReads(mirror).length).toBeGreaterThan(0);
    expect(blobReads(registry)).toEqual([]);
  });
});

test("a source that gives nothing fails only its own reads, at the set limit", async () => {
  const [dead, alive] = [await workspace(), await workspace()];
  const mountpoint = await dead.mount(image, { flags: ["--read-timeout", "2"] });
  registry.fault = () => ({ kind: "hang" });
  const other = `${mirror.host}/faults/image:n`;
  const works = await alive.mount(other);
  const failing = run("cat", [`${mountpoint}/noise`], { mayFail: true });
  expect(await checkTree(place.path("tree.jsonl"), works)).toMatch(/, 0 differences$/);
  const { code, stderr } = await failing;
  expect(code).toBe(1);
  expect(stderr).toContain("Input/output error");
  registry.fault = () => undefined;
  expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(/, 0 differences$/);
  for (const [own, where] of [
    [dead, mountpoint],
    [alive, works],
  ] as const)
    await own.umount(where);
});

test("a mount waits for a source that is slow to say where chunks lie", async () => {
  const own = await workspace();
  const batched = `${registry.host}/faults/batched:n`;
  await own.tool(["convert", "--batch-size", "64K", `oci:${place.path("source")}:t`, batched]);
  registry.fault = async ({ range }) => {
    // Longer than a serving process stays without any mount, also when it was just started.
    if (range !== undefined) await Bun.sleep(5000);
    return undefined;
  };
  const mountpoint = await own.mount(batched);
  registry.fault = () => undefined;
  expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(/, 0 differences$/);
  await own.umount(mountpoint);
});

test("a reader that is killed while its source hangs is gone at once", async () => {
  const own = await workspace();
  const mountpoint = await own.mount(image);
  registry.fault = () => ({ kind: "hang" });
  const output = await run("timeout", ["--signal=KILL", "1", "cat", `${mountpoint}/noise`], {
    mayFail: true,
  });
  expect(output.stdout).toBe("");
  expect(output.code).not.toBe(0);
  registry.fault = () => undefined;
  expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(/, 0 differences$/);
  await own.umount(mountpoint);
});
