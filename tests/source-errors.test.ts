/**
 * Registries that give nothing right for as long as they are asked, as a user of the built program meets them: readers
 * and commands get an error that says which kind of failure it is, and later everything is right again.
 */
import { mkdir } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { MEANINGS } from "../lib/base/error.ts";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { expectFailure, expectNothingHalfWritten } from "./support/failures.ts";
import { type Fault, type FaultRegistry, startFaultRegistry } from "./support/fault-registry.ts";
import { expectedTree } from "./support/model.ts";
import { run, waitFor } from "./support/process.ts";
import { startSilentServer } from "./support/silent-server.ts";
import { smallModel, writeSmallImage } from "./support/small-image.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

/**
 * Seconds; the default is a minute, and a reader's error takes several such waits, because the kernel asks again. Pauses
 * between attempts may be longer: right after a failure a reader may still meet one.
 */
const PATIENCE = ["--read-timeout", "2"];
const LIMIT = 240_000;

let place: Workspace;

beforeAll(async () => {
  place = await openWorkspace();
  await writeExpected(place.path("tree.jsonl"), expectedTree(smallModel()));
  await writeSmallImage(place.path("source"));
  await using registry = await startFaultRegistry({ root: place.path("registry") });
  const target = `${registry.host}/spoilt/image:n`;
  await place.tool(["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, target]);
});
afterAll(() => place[Symbol.asyncDispose]());

interface Scene {
  readonly own: Workspace;
  readonly registry: FaultRegistry;
  readonly image: string;
}

/** A workspace and a registry for one test: they run side by side, because most of them wait. */
async function alone(work: (scene: Scene) => Promise<void>): Promise<void> {
  await using own = await openWorkspace();
  await using registry = await startFaultRegistry({ root: place.path("registry") });
  await work({ own, registry, image: `${registry.host}/spoilt/image:n` });
}

async function isAllRight(mountpoint: string): Promise<boolean> {
  return (await checkTree(place.path("tree.jsonl"), mountpoint)).endsWith(", 0 differences");
}

const always: readonly (readonly [what: string, fault: Fault])[] = [
  ["401", { kind: "status", status: 401 }],
  ["403", { kind: "status", status: 403 }],
  ["404", { kind: "status", status: 404 }],
  ["429", { kind: "status", status: 429 }],
  ["500", { kind: "status", status: 500 }],
  ["an empty body", { kind: "short", missing: 1e9 }],
  ["a wrong bit", { kind: "flip", at: 300 }],
];
test.concurrent.each(always)(
  "a file gives an error when the registry always answers %s, and is right again later",
  (_, fault) =>
    alone(async ({ own, registry, image }) => {
      const mountpoint = await own.mount(image, { flags: PATIENCE });
      registry.fault = () => fault;
      const output = await run("cat", [`${mountpoint}/noise`], { mayFail: true });
      expect(output.stdout).toBe("");
      expect(output.stderr).toMatch(/Input\/output error|Permission denied|No such file/);
      expect(output.code).toBe(1);
      registry.fault = () => undefined;
      await waitFor("all to be right again", () => isAllRight(mountpoint), { seconds: 60 });
      await own.umount(mountpoint);
    }),
  LIMIT,
);

const hanging: readonly (readonly [what: string, fault: Fault])[] = [
  ["does not answer", { kind: "hang" }],
  ["stops in the middle of a body", { kind: "hang", after: 500 }],
];
test.concurrent.each(hanging)(
  "a reader can be interrupted while the registry %s, and reads well later",
  (_, fault) =>
    alone(async ({ own, registry, image }) => {
      const mountpoint = await own.mount(image);
      registry.fault = () => fault;
      const words = ["--signal=INT", "1", "cat", `${mountpoint}/noise`];
      expect(await run("timeout", words, { mayFail: true })).toEqual({ code: 124, stdout: "", stderr: "" });
      registry.fault = () => undefined;
      expect(await isAllRight(mountpoint)).toBe(true);
      await own.umount(mountpoint);
    }),
  LIMIT,
);

test.concurrent(
  "verbs give up on a registry that accepts connections and says nothing",
  () =>
    alone(async ({ own }) => {
      await using registry = await startSilentServer();
      const image = `${registry.host}/a/b:1`;
      await mkdir(own.path("mnt"));
      const run = (...words: string[]) => own.tool(words, { mayFail: true });
      const outputs = await Promise.all([
        run("pull", ...PATIENCE, image, `oci:${own.path("copy")}:n`),
        run("convert", ...PATIENCE, image, `oci:${own.path("converted")}:n`),
        run("check", ...PATIENCE, image),
        run(...own.mountWords({ flags: PATIENCE }), "--detach", image, own.path("mnt")),
      ]);
      for (const output of outputs) {
        expectFailure(output, "unavailable");
        expect(output.stderr).toMatch(/: no answer from 127\.0\.0\.1:\d+ for 2 s.*; check that it is up/);
      }
    }),
  LIMIT,
);

const refusals: readonly (readonly [what: string, fault: Fault, kind: keyof typeof MEANINGS])[] = [
  ["401", { kind: "status", status: 401 }, "denied"],
  ["403", { kind: "status", status: 403 }, "denied"],
  ["404", { kind: "status", status: 404 }, "not_found"],
  ["429", { kind: "status", status: 429 }, "unavailable"],
  ["500", { kind: "status", status: 500 }, "unavailable"],
  ["nothing", { kind: "hang" }, "unavailable"],
  ["by breaking the connection", { kind: "reset" }, "unavailable"],
  ["with a wrong bit", { kind: "flip", at: 300 }, "corrupt"],
];
test.concurrent.each(refusals)(
  "mount and pull say what is wrong when blobs answer %s",
  (_, fault, kind) =>
    alone(async ({ own, registry, image }) => {
      registry.fault = () => fault;
      await mkdir(own.path("mnt"));
      const words = [...own.mountWords({ flags: PATIENCE }), "--detach", image, own.path("mnt")];
      const [mounted, copied] = await Promise.all([
        own.tool(words, { mayFail: true }),
        own.tool(["pull", ...PATIENCE, image, `oci:${own.path("copy")}:n`], { mayFail: true }),
      ]);
      expectFailure(mounted, kind);
      expect(mounted.stderr).toMatch(/sha256:[0-9a-f]{64}|127\.0\.0\.1/);
      expect(own.mounts()).toEqual([]);
      expectFailure(copied, kind);
      await expectNothingHalfWritten(own.path("copy"));
    }),
  LIMIT,
);
