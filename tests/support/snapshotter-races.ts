/**
 * What a snapshotter must keep when many ask at once, and when one asks again: for the contract suite.
 *
 * @module
 */
import { readdir } from "node:fs/promises";
import { expect, test } from "vitest";
import { type AnySnapshotter, KEEP } from "./any-snapshotter.ts";
import { mounted } from "./snapshot-mounts.ts";
import { file, type LayerSuite } from "./snapshotter-layers.ts";

interface RaceSuite extends Omit<LayerSuite, "view"> {
  snapshotter(): AnySnapshotter;
}

export function testRaces({ layer, fresh, work, snapshotter }: RaceSuite): void {
  test("Concurrent: many snapshots at once, one of equal keys", async () => {
    const parent = await layer("");
    const key = fresh("active");
    const outcomes = await Promise.allSettled([
      ...Array.from({ length: 20 }, () => snapshotter().prepare(fresh("active"), parent, KEEP)),
      ...Array.from({ length: 5 }, () => snapshotter().prepare(key, parent, KEEP)),
    ]);
    expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(21);
  });

  test("Clients: sixteen at once, whole lives of snapshots; the end is as if one had worked", async () => {
    const parent = await layer("", (at) => file(`${at}/a`, "a"));
    const before = (await snapshotter().list([])).length;
    const live = async (): Promise<void> => {
      for (let round = 0; round < 3; round++) {
        const [key, committed, view] = [fresh("active"), fresh("committed"), fresh("view")];
        await snapshotter().prepare(key, parent, KEEP);
        await snapshotter().commit(committed, key, { ...KEEP, l: key });
        await Promise.all([snapshotter().view(view, committed, KEEP), snapshotter().usage(committed)]);
        expect(await snapshotter().stat(committed)).toMatchObject({ parent, labels: { l: key } });
        await snapshotter().remove(view);
        await snapshotter().remove(committed);
      }
    };
    await Promise.all(Array.from({ length: 16 }, live));
    expect(await snapshotter().list([])).toHaveLength(before);
  });

  test("Races: one of many commits to a name wins, and a parent stays while something is built on it", async () => {
    const name = fresh("wanted");
    const keys = Array.from({ length: 8 }, () => fresh("active"));
    for (const key of keys) await snapshotter().prepare(key, "", { ...KEEP, l: key });
    const commits = keys.map(async (key) => {
      await snapshotter().commit(name, key, { ...KEEP, l: key });
      return key;
    });
    const won = (await Promise.allSettled(commits)).flatMap((end) =>
      end.status === "fulfilled" ? [end.value] : [],
    );
    expect(won).toHaveLength(1);
    expect((await snapshotter().stat(name)).labels.l).toBe(won[0]);
    const child = fresh("child");
    const [removed, prepared] = await Promise.allSettled([
      snapshotter().remove(name),
      snapshotter().prepare(child, name, KEEP),
    ]);
    // Either order is right; both at once would leave a child without its parent.
    expect([removed.status, prepared.status].sort()).toEqual(["fulfilled", "rejected"]);
    if (prepared.status === "fulfilled") expect((await snapshotter().stat(child)).parent).toBe(name);
  });

  test("Retries: what was done already is said to be, and stays as it was", async () => {
    const parent = await layer("", (at) => file(`${at}/a`, "a"));
    const [key, committed] = [fresh("active"), fresh("committed")];
    await snapshotter().prepare(key, parent, KEEP);
    await expect(snapshotter().prepare(key, parent, KEEP)).rejects.toMatchObject({ code: "exists" });
    await snapshotter().commit(committed, key, { ...KEEP, l: "1" });
    const before = await snapshotter().stat(committed);
    for (const retried of [key, fresh("another")]) {
      const retry = async (): Promise<void> => {
        if (retried !== key) await snapshotter().prepare(retried, parent, KEEP);
        await snapshotter().commit(committed, retried, { ...KEEP, l: "2" });
      };
      // Which of the two mistakes is named differs: the key is gone and the name is taken.
      await expect(retry()).rejects.toMatchObject({ code: expect.stringMatching(/exists|not_found/) });
    }
    expect(await snapshotter().stat(committed)).toEqual(before);
    await snapshotter().remove(committed);
    await expect(snapshotter().remove(committed)).rejects.toMatchObject({ code: "not_found" });
    await expect(snapshotter().commit(committed, key, KEEP)).rejects.toMatchObject({ code: "not_found" });
  });

  test("Cleanup: takes nothing that a snapshot needs, and may run again", async () => {
    const parent = await layer("", (at) => file(`${at}/kept`, "kept"));
    const [active, gone] = [fresh("active"), fresh("gone")];
    await mounted(work(), await snapshotter().prepare(active, parent, KEEP), (at) => file(`${at}/new`, "n"));
    await snapshotter().prepare(gone, parent, KEEP);
    await snapshotter().remove(gone);
    await Promise.all([snapshotter().cleanup(), snapshotter().prepare(fresh("active"), parent, KEEP)]);
    await snapshotter().cleanup();
    await mounted(work(), await snapshotter().mounts(active), async (at) => {
      expect((await readdir(at)).sort()).toEqual(["kept", "new"]);
    });
  });
}
