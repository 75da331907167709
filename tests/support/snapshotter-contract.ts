/**
 * What containerd expects of every snapshotter, as one suite for every way to reach one. The cases are those of
 * containerd's own snapshotter test suite, by name; the mounts are real, so the suite needs root.
 *
 * @module
 */
import { link, lstat, mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Mount } from "../../lib/containerd/snapshots.ts";
import { type AnySnapshotter, KEEP, type Labels } from "./any-snapshotter.ts";
import { umountAllUnder } from "./mounts.ts";
import { mounted } from "./snapshot-mounts.ts";
import { type Change, file, testLayers, treeOf } from "./snapshotter-layers.ts";
import { testRaces } from "./snapshotter-races.ts";

export function testSnapshotter(name: string, open: () => Promise<AnySnapshotter>): void {
  describe(`${name} as a snapshotter`, () => {
    let snapshotter: AnySnapshotter;
    let work: string;
    let count = 0;
    const fresh = (what: string): string => `${what}-${++count}`;

    beforeAll(async () => {
      work = await mkdtemp("/tmp/nt-snapshots-");
      snapshotter = await open();
    });
    afterAll(async () => {
      await snapshotter?.close();
      await umountAllUnder(work);
      await rm(work, { recursive: true, force: true });
    });

    /** Prepare, change through the mounts, commit. */
    const layer = async (parent: string, change: Change = async () => {}): Promise<string> => {
      const [key, committed] = [fresh("active"), fresh("committed")];
      await mounted(work, await snapshotter.prepare(key, parent, KEEP), change);
      await snapshotter.commit(committed, key, KEEP);
      return committed;
    };

    const view = (parent: string): Promise<readonly Mount[]> => snapshotter.view(fresh("view"), parent, KEEP);

    test("Basic: layers, a view, and removal from the top down", async () => {
      const first: Change = async (at) => {
        await file(`${at}/foo`, "foo\n", 0o777);
        await mkdir(`${at}/a/b/c`, { recursive: true });
      };
      const second: Change = async (at) => {
        await file(`${at}/bar`, "bar\n", 0o777);
        await file(`${at}/foo`, "bar\n", 0o777);
        await rm(`${at}/a/b`, { recursive: true });
      };
      const flat = join(work, fresh("flat"));
      await mkdir(flat);
      const [key, one] = [fresh("active"), fresh("one")];
      await mounted(work, await snapshotter.prepare(key, "", KEEP), first);
      expect(await snapshotter.stat(key)).toMatchObject({ kind: "active", parent: "" });
      await snapshotter.commit(one, key, KEEP);
      expect(await snapshotter.stat(one)).toMatchObject({ name: one, kind: "committed", parent: "" });
      await expect(snapshotter.stat(key)).rejects.toMatchObject({ code: "not_found" });

      await first(flat);
      const [next, two] = [fresh("active"), fresh("two")];
      await mounted(work, await snapshotter.prepare(next, one, KEEP), async (directory) => {
        expect(await treeOf(directory)).toEqual(await treeOf(flat));
        await second(directory);
      });
      expect(await snapshotter.stat(next)).toMatchObject({ kind: "active", parent: one });
      await snapshotter.commit(two, next, KEEP);
      expect(await snapshotter.stat(two)).toMatchObject({ kind: "committed", parent: one });
      const listed = await snapshotter.list([]);
      for (const name of [one, two]) expect(listed).toContainEqual(await snapshotter.stat(name));

      await second(flat);
      const view = fresh("view");
      await mounted(work, await snapshotter.view(view, two, KEEP), async (directory) => {
        expect(await treeOf(directory)).toEqual(await treeOf(flat));
      });
      await snapshotter.remove(view);
      await expect(snapshotter.remove(one)).rejects.toMatchObject({ code: "busy" });
      await snapshotter.remove(two);
      await snapshotter.remove(one);
      await expect(snapshotter.remove(one)).rejects.toMatchObject({ code: "not_found" });
    });

    testLayers({ layer, fresh, view, work: () => work });

    test("StatActive: a prepared snapshot says so", async () => {
      const key = fresh("active");
      await snapshotter.prepare(key, "", KEEP);
      expect(await snapshotter.stat(key)).toMatchObject({ name: key, kind: "active", parent: "" });
    });

    test("StatCommitted: a committed snapshot says so", async () => {
      const committed = await layer("");
      expect(await snapshotter.stat(committed)).toMatchObject({ kind: "committed", parent: "" });
    });

    test("Transitivity: parents lead down to the bottom", async () => {
      const a = await layer("", (at) => file(`${at}/foo`, "foo\n"));
      const b = await layer(a, (at) => file(`${at}/foo`, "foo bar\n"));
      expect((await snapshotter.stat(b)).parent).toBe(a);
      expect((await snapshotter.stat(a)).parent).toBe("");
    });

    test("PrepareViewFailing: a key is used once, and parents must be committed", async () => {
      const parent = await layer("");
      const [active, view] = [fresh("active"), fresh("view")];
      await snapshotter.prepare(active, parent, KEEP);
      await snapshotter.view(view, parent, KEEP);
      for (const key of [active, view]) {
        await expect(snapshotter.prepare(key, parent, KEEP)).rejects.toMatchObject({ code: "exists" });
        await expect(snapshotter.view(key, parent, KEEP)).rejects.toMatchObject({ code: "exists" });
      }
      await expect(snapshotter.prepare(fresh("a"), "missing", KEEP)).rejects.toMatchObject({
        code: "not_found",
      });
      await expect(snapshotter.prepare(fresh("a"), active, KEEP)).rejects.toMatchObject({
        code: expect.stringMatching(/usage|busy/),
      });
      await expect(snapshotter.commit(fresh("c"), view, KEEP)).rejects.toMatchObject({ code: "busy" });
      await expect(snapshotter.commit(fresh("c"), "missing", KEEP)).rejects.toMatchObject({
        code: "not_found",
      });
      await expect(snapshotter.commit(parent, active, KEEP)).rejects.toMatchObject({ code: "exists" });
      await expect(snapshotter.mounts(parent)).rejects.toMatchObject({ code: "busy" });
      await expect(snapshotter.mounts("missing")).rejects.toMatchObject({ code: "not_found" });
    });

    test("Update: labels change alone, together and never anything else", async () => {
      const c1 = await layer("");
      const c2 = await layer(c1);
      const [a, v] = [fresh("active"), fresh("view")];
      const before = Date.now();
      await snapshotter.prepare(a, c2, KEEP);
      await snapshotter.view(v, c2, KEEP);
      for (const name of [c1, c2, a, v]) {
        const old = await snapshotter.stat(name);
        expect(old.updated).toBe(old.created);
        if (name === a) expect(old.created).toBeGreaterThanOrEqual(before);
        const all = await snapshotter.update(name, { ...KEEP, l1: "v1", l2: "v2", l3: "v3" }, []);
        expect(all).toEqual({
          ...old,
          labels: { ...KEEP, l1: "v1", l2: "v2", l3: "v3" },
          updated: all.updated,
        });
        expect(all.updated).toBeGreaterThanOrEqual(old.created);
        const some = await snapshotter.update(name, { l1: "updated", l4: "v4" }, ["labels.l1", "labels.l2"]);
        expect(some.labels).toEqual({ ...KEEP, l1: "updated", l3: "v3" });
        const dotted = await snapshotter.update(name, { "a.b/c.d": "x" }, ["labels.a.b/c.d"]);
        expect(dotted.labels).toEqual({ ...some.labels, "a.b/c.d": "x" });
        const whole = await snapshotter.update(name, { ...KEEP, l4: "v4" }, ["labels"]);
        expect(whole.labels).toEqual({ ...KEEP, l4: "v4" });
        expect(await snapshotter.stat(name)).toEqual(whole);
        await expect(snapshotter.update(name, {}, ["parent"])).rejects.toMatchObject({ code: "usage" });
      }
      await expect(snapshotter.update("missing", {}, [])).rejects.toMatchObject({ code: "not_found" });
    });

    test("Remove: names become free again", async () => {
      const [a, c, reused] = [fresh("active"), fresh("committed"), fresh("reused")];
      await snapshotter.prepare(a, "", KEEP);
      await snapshotter.commit(c, a, KEEP);
      await snapshotter.prepare(reused, c, KEEP);
      await snapshotter.remove(reused);
      await snapshotter.view(reused, c, KEEP);
      await snapshotter.remove(reused);
      await snapshotter.prepare(reused, "", KEEP);
      await snapshotter.remove(c);
      await snapshotter.commit(c, reused, KEEP);
      expect((await snapshotter.stat(c)).kind).toBe("committed");
    });

    test("Walk: filters choose by name, parent, kind and labels", async () => {
      const root = { "containerd.io/gc.root": "check-walk" };
      const n = (name: string): string => `walk-${name}`;
      const commit = async (name: string, labels: Labels): Promise<void> => {
        await snapshotter.prepare(n(`${name}-tmp`), "", root);
        await snapshotter.commit(n(name), n(`${name}-tmp`), labels);
      };
      await snapshotter.prepare(n("a-np"), "", root);
      await commit("p", root);
      await snapshotter.prepare(n("a"), n("p"), root);
      await snapshotter.view(n("v"), n("p"), root);
      await commit("pl", { ...root, l: "1" });
      await snapshotter.prepare(n("al"), n("pl"), { ...root, l: "2" });
      await snapshotter.view(n("vl"), n("pl"), { ...root, l: "3" });
      await snapshotter.prepare(n("anl"), "", { ...root, l: "2" });

      const walk = 'labels."containerd.io/gc.root"==check-walk';
      const cases: readonly (readonly [filters: readonly string[], names: readonly string[]])[] = [
        [[walk], ["a-np", "p", "a", "v", "pl", "al", "vl", "anl"]],
        [[`kind==active,${walk}`], ["a-np", "a", "al", "anl"]],
        [[`kind==view,${walk}`], ["v", "vl"]],
        [[`kind==committed,${walk}`], ["p", "pl"]],
        [
          ["name==walk-p", "name==walk-anl"],
          ["p", "anl"],
        ],
        [["name==walk-al,labels.l"], ["al"]],
        [["parent==walk-p"], ["a", "v"]],
        [['parent=="walk-p"'], ["a", "v"]],
        [[`parent!="",${walk}`], ["a", "v", "al", "vl"]],
        [[`parent=="",${walk}`], ["a-np", "p", "pl", "anl"]],
        [[`labels.l,${walk}`], ["pl", "al", "vl", "anl"]],
        [[`labels.l==2,${walk}`], ["al", "anl"]],
        [[`name~="^walk-a",${walk}`], ["a-np", "a", "al", "anl"]],
      ];
      for (const [filters, names] of cases) {
        const found = (await snapshotter.list(filters)).map(({ name }) => name);
        expect(found.sort(), filters.join(" or ")).toEqual(names.map(n).sort());
      }
      // containerd itself calls it unknown
      await expect(snapshotter.list(["kind=!nonsense"])).rejects.toMatchObject({
        code: expect.stringMatching(/usage|internal/),
      });
    });

    test("RemoveIntermediateSnapshot: what others are built on stays", async () => {
      const base = await layer("");
      const middle = await layer(base);
      const top = fresh("active");
      await snapshotter.prepare(top, middle, KEEP);
      await expect(snapshotter.remove(middle)).rejects.toMatchObject({ code: "busy" });
      await expect(snapshotter.remove(base)).rejects.toMatchObject({ code: "busy" });
      for (const name of [top, middle, base]) await snapshotter.remove(name);
    });

    test("ViewReadonly: nothing can be written through a view", async () => {
      const one = await layer("", (at) => file(`${at}/a`, "a"));
      const two = await layer(one, (at) => file(`${at}/b`, "b"));
      for (const parent of ["", one, two]) {
        const mounts = await snapshotter.view(fresh("view"), parent, KEEP);
        await mounted(work, mounts, async (directory) => {
          await expect(writeFile(`${directory}/testfile`, "x")).rejects.toMatchObject({ code: "EROFS" });
        });
      }
    });

    test("StatInWalk: every listed snapshot can be looked up", async () => {
      await layer(await layer(""));
      for (const info of await snapshotter.list([])) expect(await snapshotter.stat(info.name)).toEqual(info);
    });

    test("RootPermission: the root directory is open to all", async () => {
      await mounted(work, await snapshotter.prepare(fresh("active"), "", KEEP), async (directory) => {
        expect((await lstat(directory)).mode & 0o777).toBe(0o755);
      });
    });

    test("Usage: grows with what a layer holds", async () => {
      const key = fresh("active");
      const empty = await layer("");
      const written: Change = (at) => file(`${at}/big`, "x".repeat(1 << 20));
      await mounted(work, await snapshotter.prepare(key, empty, KEEP), written);
      const active = await snapshotter.usage(key);
      expect(active.size).toBeGreaterThanOrEqual(1 << 20);
      expect(active.inodes).toBe(2);
      const committed = fresh("committed");
      await snapshotter.commit(committed, key, KEEP);
      expect(await snapshotter.usage(committed)).toEqual(active);
      expect((await snapshotter.usage(empty)).size).toBeLessThan(1 << 20);
      await expect(snapshotter.usage("missing")).rejects.toMatchObject({ code: "not_found" });
    });

    test("Usage: a file with two names counts once, a hole not at all", async () => {
      const key = fresh("active");
      await mounted(work, await snapshotter.prepare(key, "", KEEP), async (at) => {
        await file(`${at}/one`, "x".repeat(1 << 20));
        await link(`${at}/one`, `${at}/two`);
        await file(`${at}/hole`, "");
        await truncate(`${at}/hole`, 1 << 30);
      });
      const { size, inodes } = await snapshotter.usage(key);
      expect(inodes).toBe(3);
      expect(size).toBeGreaterThanOrEqual(1 << 20);
      expect(size).toBeLessThan(2 << 20);
    });

    test("Mounts: the same answer again", async () => {
      const parent = await layer(await layer(""));
      const [active, view] = [fresh("active"), fresh("view")];
      expect(await snapshotter.mounts(active).catch((e: { code: string }) => e.code)).toBe("not_found");
      const prepared = await snapshotter.prepare(active, parent, KEEP);
      expect(await snapshotter.mounts(active)).toEqual(prepared);
      const viewed = await snapshotter.view(view, parent, KEEP);
      expect(await snapshotter.mounts(view)).toEqual(viewed);
    });

    testRaces({ layer, fresh, work: () => work, snapshotter: () => snapshotter });

    // Last, because nothing works after it.
    test("CloseTwice: closing again is harmless", async () => {
      await snapshotter.close();
      await snapshotter.close();
    });
  });
}
