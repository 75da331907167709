/**
 * One system call in a process of its own, for calls that may wait for this very process. A thread that waits for an
 * answer to a FUSE request cannot be killed while the request is being answered; if that answer was to come from
 * another thread of the same process, which was killed, the process never ends, and its file systems hang with it.
 *
 * A child of fork(2) may call little more than the kernel, so it is C from there on: compiled at the first use by the
 * compiler inside Bun (12 ms), then half a millisecond a call.
 *
 * @module
 */
import { cc, FFIType, ptr } from "bun:ffi";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SOURCE = `
extern int fork(void);
extern int waitpid(int, int *, int);
extern void _exit(int);
extern long syscall(long, ...);
extern int *__errno_location(void);

#define CLOSE_RANGE 436L
#define EINTR 4
#define EIO 5

/* The child must not keep file systems alive that its parent serves: it closes everything but "keep". */
static void close_all_but(long keep) {
  if (keep > 3) syscall(CLOSE_RANGE, 3L, keep - 1, 0L);
  syscall(CLOSE_RANGE, keep < 3 ? 3L : keep + 1, 0xffffffffL, 0L);
}

int apart(long keep, long number, long a, long b, long c, long d, long e) {
  int status = 0;
  int pid = fork();
  if (pid < 0) return -*__errno_location();
  if (pid == 0) {
    close_all_but(keep);
    _exit(syscall(number, a, b, c, d, e) < 0 ? *__errno_location() : 0);
  }
  while (waitpid(pid, &status, 0) < 0)
    if (*__errno_location() != EINTR) return -*__errno_location();
  return (status & 0x7f) != 0 ? -EIO : -((status >> 8) & 0xff);
}
`;

const LONG = FFIType.i64;
const SIGNATURE = {
  apart: { args: [LONG, LONG, LONG, LONG, LONG, LONG, LONG], returns: FFIType.i32 },
} as const;

function compile(): (...args: bigint[]) => number {
  const directory = mkdtempSync(join(tmpdir(), "nydus-cc-"));
  try {
    const source = join(directory, "apart.c");
    writeFileSync(source, SOURCE);
    return cc({ source, symbols: SIGNATURE }).symbols.apart as (...args: bigint[]) => number;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

let compiled: ((...args: bigint[]) => number) | undefined;

/**
 * @param keep a descriptor that the call needs; 0 for none
 * @returns 0, or -errno. What the call returns otherwise is lost
 */
export function syscallApart(keep: number, number: number, ...args: (number | Uint8Array)[]): number {
  compiled ??= compile();
  const [a = 0, b = 0, c = 0, d = 0, e = 0] = args.map((arg) => (typeof arg === "number" ? arg : ptr(arg)));
  return compiled(...[keep, number, a, b, c, d, e].map((value) => BigInt(value)));
}
