/**
 * Processes, as libc has them.
 *
 * @module
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { cString, lastErrno } from "./libc.ts";

const { i32, u64, ptr: pointer } = FFIType;

const libc = dlopen("libc.so.6", {
  /** int poll(struct pollfd *fds, nfds_t nfds, int timeout) */
  poll: { args: [pointer, u64, i32], returns: i32 },
  /** int execve(const char *path, char *const argv[], char *const envp[]) */
  execve: { args: [pointer, pointer, pointer], returns: i32 },
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

/**
 * This process becomes another program: same id, same parent, and the descriptors that are not closed on exec. Comes
 * back only when that is impossible.
 *
 * @param words the first is the program's name
 * @returns -errno
 */
export function becomeProgram(
  path: string,
  words: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): number {
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value ?? ""}`);
  const [argv, envp] = [words, variables].map((list) => list.map(cString)) as [Uint8Array[], Uint8Array[]];
  libc.execve(ptr(cString(path)), ptr(pointers(argv)), ptr(pointers(envp)));
  return -lastErrno();
}

/** A NULL-terminated array; whoever uses it keeps the strings. */
function pointers(strings: readonly Uint8Array[]): BigUint64Array {
  return BigUint64Array.from([...strings.map((string) => BigInt(ptr(string))), 0n]);
}
