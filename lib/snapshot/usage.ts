/**
 * Disk usage of a directory tree, as `du` counts it: allocated blocks, each inode once, nothing outside the tree.
 * Names are bytes, symbolic links are not followed, and the walk yields between batches.
 *
 * @module
 */
import { lstat, readdir } from "node:fs/promises";
import type { Usage } from "../containerd/snapshots.ts";

/** `st_blocks` counts 512-byte units whatever the file system's block size is. */
const BLOCK = 512;
/** Paths that are looked at together. */
const BATCH = 64;
const SLASH = Buffer.from("/");

export async function diskUsage(
  directory: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Usage> {
  const counted = new Set<string>();
  const waiting: Buffer[] = [Buffer.from(directory)];
  let size = 0;
  while (waiting.length > 0) {
    options.signal?.throwIfAborted();
    for (const entry of await Promise.all(waiting.splice(-BATCH).map(look))) {
      if (entry === undefined || counted.has(entry.inode)) continue;
      counted.add(entry.inode);
      size += entry.blocks * BLOCK;
      for (const child of entry.children) waiting.push(child);
    }
  }
  return { size, inodes: counted.size };
}

interface Entry {
  readonly inode: string;
  readonly blocks: number;
  readonly children: readonly Buffer[];
}

async function look(path: Buffer): Promise<Entry | undefined> {
  try {
    const stat = await lstat(path);
    const names = stat.isDirectory() ? await readdir(path, { encoding: "buffer" }) : [];
    return {
      inode: `${stat.dev}:${stat.ino}`,
      blocks: stat.blocks,
      children: names.map((name) => Buffer.concat([path, SLASH, name])),
    };
  } catch (error) {
    // It went away meanwhile: a container is running.
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return undefined;
    throw error;
  }
}
