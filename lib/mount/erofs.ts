/**
 * Mounting EROFS: the bootstrap is the primary "device" (a plain file, Linux 6.12 on), and each blob an extra one.
 *
 * @module
 */
import {
  close,
  ERRNO,
  errnoName,
  fsconfigCreate,
  fsconfigString,
  fsMessages,
  fsmount,
  fsopen,
  MNT,
  MOUNT_ATTR,
  MS,
  mount,
  moveMount,
  umount,
} from "../../ffi/libc.ts";
import { NydusError } from "../base/error.ts";
import { isRoot } from "../base/self.ts";
import { unmountAsUser } from "./fusermount.ts";
import { mountAt } from "./mount-table.ts";

/** mount(2) takes one page of options. */
const OPTION_LIMIT = 4095;

export interface ErofsMount {
  /** Path of the bootstrap. */
  readonly bootstrap: string;
  /** One path a blob, in the order of the bootstrap's device slots. */
  readonly devices: readonly string[];
  readonly mountpoint: string;
}

/** @throws unsupported when this kernel cannot mount EROFS from a file */
export function mountErofs(request: ErofsMount): void {
  const data = request.devices.map((path) => `device=${path}`).join(",");
  if (data.length <= OPTION_LIMIT) {
    // Call mount(2) itself: the mount program would put a loop device in front of the file.
    const result = mount(request.bootstrap, request.mountpoint, "erofs", MS.RDONLY, data);
    if (result < 0) throw failure(request, -result, []);
  } else mountWithContext(request);
}

/** fsopen(2) and its kin pass each option alone, so their number is not limited. */
function mountWithContext(request: ErofsMount): void {
  const context = fsopen("erofs");
  if (context < 0) throw failure(request, -context, []);
  try {
    const step = (result: number): number => {
      if (result < 0) throw failure(request, -result, fsMessages(context));
      return result;
    };
    step(fsconfigString(context, "source", request.bootstrap));
    for (const device of request.devices) step(fsconfigString(context, "device", device));
    step(fsconfigCreate(context));
    const mounted = step(fsmount(context, MOUNT_ATTR.RDONLY));
    try {
      step(moveMount(mounted, request.mountpoint));
    } finally {
      close(mounted);
    }
  } finally {
    close(context);
  }
}

/** ENOTBLK (15): EROFS insists on a block device, so files are not supported. ENODEV: no EROFS at all. */
const NOT_BLOCK = 15;

function failure(request: ErofsMount, errno: number, said: readonly string[]): NydusError {
  const missing = errno === ERRNO.ENODEV || errno === NOT_BLOCK || errno === ERRNO.ENOSYS;
  const reason = missing ? "this kernel has no file-backed EROFS (Linux 6.12 on)" : errnoName(errno);
  const details = said.length > 0 ? ` (${said.join("; ")})` : "";
  return new NydusError(
    missing ? "unsupported" : "internal",
    `Cannot mount "${request.bootstrap}" on "${request.mountpoint}" as EROFS: ${reason}${details}`,
  );
}

/** @returns false when nothing was mounted there. @throws busy */
export function unmount(mountpoint: string, options: { readonly detach?: boolean } = {}): boolean {
  if (!isRoot()) {
    if (mountAt(mountpoint) === undefined) return false;
    unmountAsUser(mountpoint, options);
    return true;
  }
  const result = umount(mountpoint, options.detach === true ? MNT.DETACH : 0);
  if (result === -ERRNO.EINVAL || result === -ERRNO.ENOENT) return false;
  if (result === -ERRNO.EBUSY) throw new NydusError("busy", `Cannot unmount "${mountpoint}": it is in use`);
  if (result < 0) throw new NydusError("internal", `Cannot unmount "${mountpoint}": ${errnoName(-result)}`);
  return true;
}
