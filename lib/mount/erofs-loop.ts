/**
 * EROFS on loop devices, for kernels that cannot mount it from files (before Linux 6.12). The devices free themselves:
 * the kernel does that when nobody has them open any more, also when this process is killed in between.
 *
 * @module
 */
import { close, errnoName } from "../../ffi/libc.ts";
import { attachLoop, type LoopDevice } from "../../ffi/loop.ts";
import { NydusError } from "../base/error.ts";
import { type ErofsMount, mountErofs } from "./erofs.ts";

/** @throws unsupported when there are no loop devices, or no EROFS */
export function mountErofsOnLoops({ bootstrap, devices, mountpoint }: ErofsMount): void {
  const loops: LoopDevice[] = [];
  try {
    for (const path of [bootstrap, ...devices]) loops.push(attached(path));
    const [primary = "", ...extra] = loops.map(({ path }) => path);
    mountErofs({ bootstrap: primary, devices: extra, mountpoint });
  } finally {
    for (const { fd } of loops) close(fd);
  }
}

function attached(path: string): LoopDevice {
  const loop = attachLoop(path);
  if (typeof loop !== "number") return loop;
  throw new NydusError("unsupported", `Cannot mount "${path}" through a loop device: ${errnoName(-loop)}`);
}
