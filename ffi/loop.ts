/**
 * Loop devices, Linux `include/uapi/linux/loop.h`: a file as a block device.
 *
 * @module
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { close, cString, ERRNO, lastErrno, O, open } from "./libc.ts";

const { i32, u32, u64, ptr: pointer } = FFIType;

const libc = dlopen("libc.so.6", {
  /** int ioctl(int fd, unsigned long request, ...): a pointer or 0 as third argument */
  ioctl: { args: [i32, u64, pointer], returns: i32 },
  /** int mknod(const char *path, mode_t mode, dev_t dev) */
  mknod: { args: [pointer, u32, u64], returns: i32 },
}).symbols;

const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_GET_FREE = 0x4c82;
/** `struct loop_config`: u32 fd, u32 block_size, `struct loop_info64` (from 8), u64 reserved[8]. */
const CONFIG = { SIZE: 304, FD: 0, FLAGS: 8 + 52 } as const;
const LO_FLAGS = { READ_ONLY: 1, AUTOCLEAR: 4 } as const;
const S_IFBLK = 0o060000;
const LOOP_MAJOR = 7;
/** Others take devices too, between our asking for a free one and our taking it. */
const ATTEMPTS = 100;

export interface LoopDevice {
  readonly path: string;
  /** Once nobody has the device open any more, the kernel frees it; so keep this open until it is mounted. */
  readonly fd: number;
}

/** A free loop device shows the file, read-only. @returns -errno on failure */
export function attachLoop(path: string): LoopDevice | number {
  const file = open(path, O.RDONLY);
  if (file < 0) return file;
  const control = open("/dev/loop-control", O.RDWR);
  try {
    return control < 0 ? control : attachTo(control, file);
  } finally {
    if (control >= 0) close(control);
    close(file);
  }
}

function attachTo(control: number, file: number): LoopDevice | number {
  const config = new DataView(new ArrayBuffer(CONFIG.SIZE));
  config.setUint32(CONFIG.FD, file, true);
  config.setUint32(CONFIG.FLAGS, LO_FLAGS.READ_ONLY | LO_FLAGS.AUTOCLEAR, true);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const number = checked(libc.ioctl(control, LOOP_CTL_GET_FREE, null));
    if (number < 0) return number;
    const path = `/dev/loop${number}`;
    const fd = openNode(path, number);
    if (fd < 0) return fd;
    const result = checked(libc.ioctl(fd, LOOP_CONFIGURE, ptr(config)));
    if (result === 0) return { path, fd };
    close(fd);
    if (result !== -ERRNO.EBUSY) return result;
  }
  return -ERRNO.EBUSY;
}

/** In a container nobody makes nodes for new devices. */
function openNode(path: string, number: number): number {
  const fd = open(path, O.RDONLY);
  if (fd !== -ERRNO.ENOENT) return fd;
  libc.mknod(cString(path), S_IFBLK | 0o600, (LOOP_MAJOR << 8) | number);
  return open(path, O.RDONLY);
}

function checked(result: number): number {
  return result < 0 ? -lastErrno() : result;
}
