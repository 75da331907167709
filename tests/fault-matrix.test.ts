/**
 * Two troubles at once: while a source does not do as it should, the processes behind a mount are killed, one after the
 * other. Readers that check the whole tree have waited longer, and see the right bytes.
 */
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { type FaultRegistry, startFaultRegistry } from "./support/fault-registry.ts";
import { Mischief } from "./support/mischief.ts";
import { expectedTree, itemsOf } from "./support/model.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { killOne } from "./support/readers.ts";
import { TROUBLES, type Trouble, troubledTree } from "./support/source-troubles.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace, workspace } from "./support/workspace.ts";

const READERS = 4;
/** Each request is answered several times over. Still more than one request reads ahead: something is left to ask for. */
const SCALE = 0.6;

/** Side by side, each on a mount of its own. */
const PLANS = [
  { driver: "erofs", kills: ["server", "controller"] },
  { driver: "fuse", kills: ["controller", "server"] },
] as const;

let place: Workspace;

beforeAll(async () => {
  place = await openWorkspace();
  const model = troubledTree(SCALE);
  await writeExpected(place.path("tree.jsonl"), expectedTree(model));
  await writeLayout(place.path("source"), [tarOf(itemsOf(model))]);
  const registry = await startFaultRegistry({ root: place.path("registry") });
  await using _registry = registry;
  const image = imageOf(registry);
  await place.tool(["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, image]);
});
afterAll(() => place[Symbol.asyncDispose]());

function imageOf({ host }: FaultRegistry): string {
  return `${host}/faults/image:n`;
}

async function registryWith(trouble: Trouble): Promise<FaultRegistry> {
  const registry = await startFaultRegistry({ root: place.path("registry") });
  onTestFinished(() => registry[Symbol.asyncDispose]());
  trouble.begin?.(registry);
  return registry;
}

async function survives(trouble: Trouble, { driver, kills }: (typeof PLANS)[number]): Promise<void> {
  const registry = await registryWith(trouble);
  const own = await workspace();
  const mountpoint = await own.mount(imageOf(registry), { driver });
  using mischief = new Mischief(registry, trouble);
  const reports = Promise.all(
    Array.from({ length: READERS }, () => checkTree(place.path("tree.jsonl"), mountpoint)),
  );
  for (const which of kills) await mischief.during((moment) => killOne(own, which, moment));
  expect(mischief.happened).toBe(kills.length);
  mischief[Symbol.dispose]();
  for (const report of await reports) expect(report).toMatch(/, 0 differences$/);
  await own.umount(mountpoint);
}

test.each(TROUBLES)(
  "four readers see the right bytes though either process is killed, in turn, while %s",
  async (_when, trouble) => {
    await Promise.all(PLANS.map((plan) => survives(trouble, plan)));
  },
);
