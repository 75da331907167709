/**
 * Whether this kernel can do what mounts need: tried, not guessed from versions, in a directory that goes away again.
 *
 * @module
 */
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { release } from "node:os";
import { dirname, join } from "node:path";
import { isCode, toNydusError } from "../base/error.ts";
import { mountErofs, unmount } from "../mount/erofs.ts";
import { mountOverlay } from "../mount/overlay.ts";
import { writeBootstrap } from "../rafs/writer.ts";
import { directory as emptyDirectory } from "../tree/tree.ts";
import { type Finding, problem, stateOf, warning, well } from "./finding.ts";

/** @param root of the snapshotter; it may not be there yet */
export function checkKernel(root: string): Finding[] {
  if (process.getuid?.() !== 0)
    return [problem("kernel", `Linux ${release()}, not tried`, "run doctor as root: mounting needs it")];
  return [
    well("kernel", `Linux ${release()}`),
    checkFuse(),
    ...inDirectory(root, checkMounts),
    ...checkSpace(root),
  ];
}

function checkFuse(): Finding {
  try {
    closeSync(openSync("/dev/fuse", "r+"));
    return well("FUSE", "/dev/fuse opens");
  } catch (error) {
    return problem(
      "FUSE",
      `/dev/fuse: ${stateOf(error)}`,
      "modprobe fuse (and add it to /etc/modules-load.d): blobs are served through it",
    );
  }
}

/** Below the nearest directory that exists: what matters is the file system that it is on. */
function inDirectory(root: string, check: (directory: string) => Finding[]): Finding[] {
  let base = root;
  for (;;) {
    try {
      const directory = mkdtempSync(join(base, ".nydus-doctor-"));
      try {
        return check(directory);
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    } catch (error) {
      if (isCode(toNydusError(error, "make a directory"), "not_found") && base !== dirname(base))
        base = dirname(base);
      else return [problem("root", `${base}: ${stateOf(error)}`, "choose another --root")];
    }
  }
}

function checkMounts(directory: string): Finding[] {
  const [image, plain, mountpoint] = ["image", "plain", "mnt"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [plain, mountpoint]) mkdirSync(path);
  writeFileSync(image, emptyImage());
  const erofs = checkErofs(image, plain);
  const overlay = checkOverlay(plain, join(directory, "upper"), mountpoint, erofs.state === "ok");
  if (erofs.state === "ok") unmount(plain);
  return [erofs, overlay];
}

function emptyImage(): Uint8Array {
  const blob = (): never => {
    throw new Error("an empty image has no blobs");
  };
  return writeBootstrap(emptyDirectory(), {
    chunkSize: 2 ** 20,
    compressor: "none",
    digester: "sha256",
    blobs: blob,
  });
}

function checkErofs(bootstrap: string, mountpoint: string): Finding {
  try {
    mountErofs({ bootstrap, devices: [], mountpoint });
    return well("EROFS", "mounts images from files: driver erofs");
  } catch (error) {
    return warning(
      "EROFS",
      `cannot mount images from files (${stateOf(error)}): driver fuse is used, which is slower`,
      "modprobe erofs; it needs Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE",
    );
  }
}

function checkOverlay(lower: string, upper: string, mountpoint: string, onErofs: boolean): Finding {
  const on = onErofs ? "an EROFS image" : "a directory";
  try {
    mountOverlay(lower, upper, mountpoint);
    unmount(mountpoint);
    return well("overlayfs", `stands on ${on}, and writes where the snapshots are`);
  } catch (error) {
    const loaded = readFileSync("/proc/filesystems", "utf8").includes("\toverlay\n");
    return problem(
      "overlayfs",
      `cannot be mounted on ${on}: ${stateOf(error)}`,
      loaded
        ? "put --root on a file system that overlayfs can write to, such as ext4 or xfs (ftype=1)"
        : "modprobe overlay",
    );
  }
}

/** The kubelet starts to remove images when less than 15 % is free. */
function checkSpace(root: string): Finding[] {
  return inDirectory(root, (directory) => {
    const { bavail, blocks, bsize } = statfsSync(directory);
    const share = Math.round((bavail / blocks) * 100);
    const found = `${Math.round((bavail * bsize) / 2 ** 30)} GiB free (${share}%) below ${root}`;
    return [
      share >= 15
        ? well("disk", found)
        : warning("disk", found, "make room, or keep the cache small with --cache-size"),
    ];
  });
}
