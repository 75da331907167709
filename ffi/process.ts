/**
 * Processes, as libc has them.
 *
 * @module
 */
import { dlopen, FFIType, ptr } from "bun:ffi";

const { i32, u64, ptr: pointer } = FFIType;

const libc = dlopen("libc.so.6", {
  /** int poll(struct pollfd *fds, nfds_t nfds, int timeout) */
  poll: { args: [pointer, u64, i32], returns: i32 },
  /** void _exit(int status) */
  _exit: { args: [i32], returns: FFIType.void },
}).symbols;

/** struct pollfd { int fd; short events; short revents; } */
const POLLFD = { SIZE: 8, FD: 0, EVENTS: 4 } as const;
const POLLIN = 1;

/** Whether the process of a pidfd has ended, reaped or not. Never blocks. */
export function hasExited(pidfd: number): boolean {
  const entry = new DataView(new ArrayBuffer(POLLFD.SIZE));
  entry.setInt32(POLLFD.FD, pidfd, true);
  entry.setInt16(POLLFD.EVENTS, POLLIN, true);
  return libc.poll(ptr(entry), 1, 0) > 0;
}

/** Ends the process now, whatever its threads do: one that blocks in read(2) would keep an orderly end waiting. */
export function exitNow(code: number): never {
  libc._exit(code);
  throw new Error("_exit came back");
}
