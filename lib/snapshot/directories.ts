/**
 * The snapshotter's directories: `snapshots/<id>/{fs,work,mnt}` below its root. A directory is made before its row is
 * committed and thrown away after its row is gone, so that what is left after a kill is only ever a directory too many.
 * Throwing away is a rename into `trash` (atomic) and then a slow deletion.
 *
 * @module
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync } from "node:fs";
import { chmod, chown, lstat, mkdir, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { corrupt, isCode, NydusError } from "../base/error.ts";
import { EROFS_MAGIC, RAFS_V5_MAGIC, SUPERBLOCK_OFFSET } from "../rafs/superblock.ts";

/** Where the bootstrap is inside an unpacked bootstrap layer. */
const BOOTSTRAP = ["image", "image.boot"] as const;

export class SnapshotDirectories {
  readonly root: string;
  readonly #snapshots: string;
  readonly #trash: string;

  /** @throws usage for a root that overlayfs could not be told: its options end at commas and colons */
  constructor(root: string) {
    if (!root.startsWith("/") || /[,:\\"\n]/.test(root))
      throw new NydusError("usage", `Cannot use root "${root}": it must be absolute, without , : \\ and "`);
    this.root = root;
    this.#snapshots = join(root, "snapshots");
    this.#trash = join(root, "trash");
    mkdirSync(root, { recursive: true, mode: 0o711 });
    // Only root may look: the files of every image are below.
    for (const path of [this.#snapshots, this.#trash]) mkdirSync(path, { recursive: true, mode: 0o700 });
  }

  /** The files of a layer, or what a container wrote. */
  files(id: number): string {
    return join(this.#snapshots, String(id), "fs");
  }

  work(id: number): string {
    return join(this.#snapshots, String(id), "work");
  }

  /** Where the image of a bootstrap layer is mounted. */
  mountpoint(id: number): string {
    return join(this.#snapshots, String(id), "mnt");
  }

  /** Runs inside a transaction, hence synchronous. The modes must not depend on the umask. */
  create(id: number, parts: { readonly work: boolean }): void {
    const directory = join(this.#snapshots, String(id));
    if (existsSync(directory)) this.#toTrash(String(id)); // of a row that was never committed
    mkdirSync(directory, { mode: 0o700 });
    mkdirSync(this.files(id));
    chmodSync(this.files(id), 0o755);
    if (!parts.work) return;
    mkdirSync(this.work(id));
    chmodSync(this.work(id), 0o711);
  }

  async createMountpoint(id: number): Promise<string> {
    await mkdir(this.mountpoint(id), { recursive: true });
    return this.mountpoint(id);
  }

  /**
   * The root directory of an overlay shows the upper directory's attributes, so they are taken over from below.
   * `owner` is who root is in a user namespace.
   */
  async inheritRoot(
    id: number,
    from: string | undefined,
    owner: { readonly uid: number; readonly gid: number } | undefined,
  ): Promise<void> {
    const below = from === undefined ? undefined : await stat(from);
    if (below !== undefined) await chmod(this.files(id), below.mode & 0o7777);
    const { uid, gid } = owner ?? below ?? { uid: 0, gid: 0 };
    if (uid !== 0 || gid !== 0) await chown(this.files(id), uid, gid);
  }

  /** Where the bootstrap of a layer that is not unpacked is made: at the same place. */
  image(id: number): string {
    return join(this.files(id), BOOTSTRAP[0]);
  }

  /**
   * The bootstrap of an unpacked bootstrap layer. Layers come from outside: a link in place of the directory or the
   * file would lead us to files of the node.
   */
  async bootstrap(id: number): Promise<string> {
    let path = this.files(id);
    for (const [i, name] of BOOTSTRAP.entries()) {
      path = join(path, name);
      const found = await lstat(path).catch(() => undefined);
      const right = i === BOOTSTRAP.length - 1 ? found?.isFile() : found?.isDirectory();
      if (right !== true)
        throw corrupt(
          `Cannot use the bootstrap layer in "${this.files(id)}": it has no ${BOOTSTRAP.join("/")}`,
        );
    }
    return path;
  }

  /** Whether an unpacked layer is nothing but a bootstrap, as that of a Nydus image is. */
  async isBootstrapOnly(id: number): Promise<boolean> {
    const [directory] = BOOTSTRAP;
    const names = await readdir(this.files(id));
    if (names.length !== 1 || names[0] !== directory) return false;
    try {
      return await startsAsBootstrap(await this.bootstrap(id));
    } catch (error) {
      if (isCode(error, "corrupt")) return false;
      throw error;
    }
  }

  /** Whether an unpacked layer has no files. */
  async isEmpty(id: number): Promise<boolean> {
    return (await readdir(this.files(id))).length === 0;
  }

  /** Where a container in a user namespace sees what is below it. */
  async createMapped(id: number, name: "image" | "layers"): Promise<string> {
    const path = join(this.#snapshots, String(id), "mapped", name);
    await mkdir(path, { recursive: true });
    return path;
  }

  /** The directory that a layer's files are in, below `path`: another view of the directory of snapshots. */
  through(path: string, files: string): string {
    return join(path, files.slice(this.#snapshots.length + 1));
  }

  get snapshots(): string {
    return this.#snapshots;
  }

  /** Ids of directories that no row knows. */
  async orphans(known: ReadonlySet<number>): Promise<readonly string[]> {
    return (await readdir(this.#snapshots)).filter((name) => !known.has(Number(name)));
  }

  /** Image mounts of this root that the kernel knows, by the snapshot's id; the topmost of a mount point first. */
  async mounted(): Promise<readonly (readonly [id: number, mountpoint: string])[]> {
    return (await mountPoints()).reverse().flatMap((path) => {
      const id = Number(/^([1-9]\d*)\/mnt$/.exec(path.slice(this.#snapshots.length + 1))?.[1]);
      return path.startsWith(`${this.#snapshots}/`) && Number.isInteger(id) ? [[id, path] as const] : [];
    });
  }

  /** @throws busy when something is still mounted below: deleting would reach into it */
  async discard(name: string): Promise<void> {
    const directory = join(this.#snapshots, name);
    const mounted = (await mountPoints()).find(
      (path) => path === directory || path.startsWith(`${directory}/`),
    );
    if (mounted !== undefined)
      throw new NydusError("busy", `Cannot remove "${directory}": "${mounted}" is still mounted`);
    if (!existsSync(directory)) return;
    await rm(this.#toTrash(name), { recursive: true, force: true });
  }

  #toTrash(name: string): string {
    const target = join(
      this.#trash,
      `${name}-${process.pid}-${Date.now()}-${Math.random().toString(36).slice(2)}`,
    );
    renameSync(join(this.#snapshots, name), target);
    return target;
  }

  /** What earlier deletions did not finish. */
  async emptyTrash(): Promise<void> {
    for (const name of readdirSync(this.#trash))
      await rm(join(this.#trash, name), { recursive: true, force: true });
  }
}

/** RAFS v5 has its mark at the beginning, v6 where EROFS has it. */
async function startsAsBootstrap(path: string): Promise<boolean> {
  await using file = await open(path);
  const head = Buffer.alloc(SUPERBLOCK_OFFSET + 4);
  await file.read(head, 0, head.byteLength, 0);
  return head.readUInt32LE(0) === RAFS_V5_MAGIC || head.readUInt32LE(SUPERBLOCK_OFFSET) === EROFS_MAGIC;
}

/** Every mount point this process sees. */
async function mountPoints(): Promise<string[]> {
  const table = await readFile("/proc/self/mountinfo", "latin1");
  const plain = (path: string): string =>
    path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  const paths = table.split("\n").flatMap((line) => line.split(" ")[4] ?? []);
  return paths.map((path) => Buffer.from(plain(path), "latin1").toString());
}
