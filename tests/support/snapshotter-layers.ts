/**
 * What layers must keep of the trees that are written into them, for the contract suite: each change on top of the one
 * before must look like a plain directory that saw the same. The mounts are real.
 *
 * @module
 */
import { chmod, chown, link, lstat, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Mount } from "../../lib/containerd/snapshots.ts";
import { mounted } from "./snapshot-mounts.ts";

export type Change = (directory: string) => Promise<void>;

export interface LayerSuite {
  /** Prepare on a parent, change through the mounts, commit; gives back the name. */
  layer(parent: string, change?: Change): Promise<string>;
  /** A new view of a committed snapshot. */
  view(parent: string): Promise<readonly Mount[]>;
  fresh(what: string): string;
  /** A directory for mounts and for what they are compared with. */
  work(): string;
}

export function testLayers({ layer, view, fresh, work }: LayerSuite): void {
  /** Each change on top of the one before; every step must look like a plain directory that saw the same. */
  const stack = async (...changes: readonly Change[]): Promise<void> => {
    const flat = join(work(), fresh("flat"));
    await mkdir(flat);
    let parent = "";
    for (const change of changes) {
      await change(flat);
      parent = await layer(parent, async (directory) => {
        await change(directory);
        expect(await treeOf(directory)).toEqual(await treeOf(flat));
      });
      await mounted(work(), await view(parent), async (directory) => {
        expect(await treeOf(directory)).toEqual(await treeOf(flat));
      });
    }
  };

  test("LayerFileUpdate: an upper file replaces a lower one", async () => {
    await stack(
      async (at) => {
        await mkdir(`${at}/etc`, { mode: 0o700 });
        await file(`${at}/etc/hosts`, "mydomain 10.0.0.1");
        await file(`${at}/etc/profile`, "PATH=/usr/bin");
      },
      async (at) => {
        await file(`${at}/etc/hosts`, "mydomain 10.0.0.2");
        await file(`${at}/etc/profile`, "PATH=/usr/bin", 0o666);
        await mkdir(`${at}/root`, { mode: 0o700 });
        await file(`${at}/root/.bashrc`, "PATH=/usr/sbin:/usr/bin");
      },
    );
  });

  test("RemoveDirectoryInLowerLayer: a directory that is made again is empty", async () => {
    await stack(
      async (at) => {
        await mkdir(`${at}/lib`);
        await file(`${at}/lib/hidden`, "");
      },
      async (at) => {
        await rm(`${at}/lib`, { recursive: true });
        await mkdir(`${at}/lib`);
        await file(`${at}/lib/not-hidden`, "");
      },
      (at) => file(`${at}/lib/newfile`, ""),
    );
  });

  test("Chown: owners change in the upper layer", async () => {
    await stack(
      async (at) => {
        await mkdir(`${at}/opt/a/b`, { recursive: true, mode: 0o700 });
        await file(`${at}/opt/a/b/file.txt`, "hello");
      },
      async (at) => {
        for (const path of ["opt", "opt/a", "opt/a/b", "opt/a/b/file.txt"])
          await chown(`${at}/${path}`, 1, 1);
      },
    );
  });

  test("DirectoryPermissionOnCommit: owners survive commits", async () => {
    const owned = async (path: string, id: number): Promise<void> => {
      await mkdir(path, { mode: 0o700 });
      await chown(path, id, id);
    };
    await stack(
      async (at) => {
        for (const n of [1, 2, 3, 5]) await owned(`${at}/dir${n}`, 1);
        await owned(`${at}/dir4`, 0);
        for (const n of [4, 5]) await file(`${at}/dir${n}/f1`, "...");
        await chown(`${at}/dir5/f1`, 1, 1);
      },
      async (at) => {
        await chown(`${at}/dir2`, 0, 0);
        await rm(`${at}/dir3`, { recursive: true });
        for (const path of ["dir4", "dir4/f1"]) await chown(`${at}/${path}`, 1, 1);
      },
      async (at) => {
        await owned(`${at}/dir3`, 1);
        await rm(`${at}/dir5`, { recursive: true });
        await owned(`${at}/dir5`, 1);
      },
    );
  });

  test("DeletedFilesInChildSnapshot: deleted files stay deleted", async () => {
    await stack(
      async (at) => {
        await file(`${at}/foo`, "foo\n", 0o777);
        await file(`${at}/foobar`, "foobar\n", 0o777);
      },
      (at) => rm(`${at}/foobar`),
      async () => {},
    );
  });

  test("MoveFileFromLowerLayer: a file moves between directories", async () => {
    await stack(
      async (at) => {
        for (const n of [1, 2]) await mkdir(`${at}/dir${n}`, { mode: 0o700 });
        await file(`${at}/dir1/f1`, "Hello");
        await file(`${at}/dir2/f2`, "...");
      },
      async (at) => {
        await mkdir(`${at}/dir3`, { mode: 0o700 });
        await file(`${at}/dir3/f1`, "Hello");
        await rm(`${at}/dir1`, { recursive: true });
        await link(`${at}/dir2/f2`, `${at}/dir3/f2`);
        await rm(`${at}/dir2/f2`);
      },
    );
  });

  test("Rename: files of a lower layer are renamed", async () => {
    await stack(
      async (at) => {
        await mkdir(`${at}/somefiles`, { mode: 0o700 });
        await file(`${at}/somefiles/f1`, "was here first!");
        await file(`${at}/somefiles/f2`, "nothing interesting");
      },
      async (at) => {
        await file(`${at}/somefiles/f1-overwrite`, "new content 1");
        await rename(`${at}/somefiles/f1-overwrite`, `${at}/somefiles/f1`);
        await rename(`${at}/somefiles/f2`, `${at}/somefiles/f3`);
      },
    );
  });

  test("128LayersMount: a deep stack shows every layer", async () => {
    const flat = join(work(), fresh("flat"));
    await mkdir(flat);
    let parent = "";
    for (let i = 0; i < 128; i++) {
      const change: Change = async (at) => {
        if (i === 0) await mkdir(`${at}/addhere`);
        await file(`${at}/overwriteme`, `${i} WAS HERE!\n`, 0o777);
        await file(`${at}/addhere/file-${i}`, "same\n", 0o755);
        await rm(`${at}/onlyme`, { recursive: true, force: true });
        await mkdir(`${at}/onlyme`);
        await file(`${at}/onlyme/file-${i}`, "only me!\n", 0o777);
      };
      await change(flat);
      parent = await layer(parent, change);
    }
    const mounts = await view(parent);
    // More than one page, which is all that mount(2) takes: whoever mounts must shorten, so nothing may be cut here.
    expect(mounts.flatMap(({ options }) => options).join(",").length).toBeGreaterThan(4096);
    await mounted(work(), mounts, async (directory) => {
      expect(await treeOf(directory)).toEqual(await treeOf(flat));
    });
  });
}

export async function file(path: string, content: string, mode = 0o644): Promise<void> {
  await writeFile(path, content);
  await chmod(path, mode);
}

/** Everything below a directory that a layer must keep. */
export async function treeOf(directory: string): Promise<Record<string, string>> {
  const tree: Record<string, string> = {};
  const walk = async (path: string): Promise<void> => {
    for (const name of await readdir(join(directory, path))) {
      const below = join(path, name);
      const { mode, uid, gid, ...stat } = await lstat(join(directory, below));
      const isDirectory = (mode & 0o170000) === 0o040000;
      const content = isDirectory ? "" : await readFile(join(directory, below), "utf8");
      tree[below] = `${mode.toString(8)} ${uid}:${gid} ${isDirectory ? "" : stat.size} ${content}`;
      if (isDirectory) await walk(below);
    }
  };
  await walk("");
  return tree;
}
