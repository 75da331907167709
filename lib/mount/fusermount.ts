/**
 * FUSE mounts of an ordinary user, through the set-uid program of libfuse3, fusermount3(1): it calls mount(2) and sends
 * the descriptor of the new file system over a socket.
 *
 * @module
 */
import { close, errnoName } from "../../ffi/libc.ts";
import { receiveDescriptor, streamPair } from "../../ffi/unix-socket.ts";
import { NydusError } from "../base/error.ts";
import type { Driver } from "./mount-request.ts";

const PROGRAM = "fusermount3";
/** Beside the user's own PATH, which may be short in a service. */
const PLACES = "/usr/local/bin:/usr/bin:/bin";
/** Where it finds its end of the socket. */
const SOCKET_VARIABLE = "_FUSE_COMMFD";
const SOCKET_FD = 3;

export interface UserMount {
  readonly mountpoint: string;
  /** Shown as the mount's source; the type is "fuse.nydus". */
  readonly source: string;
  /** Bytes. */
  readonly maxRead: number;
}

/** @throws unsupported when libfuse3's program is not installed */
function findFusermount(path = process.env.PATH): string {
  const found = Bun.which(PROGRAM, { PATH: `${path ?? ""}:${PLACES}` });
  if (found !== null) return found;
  throw new NydusError(
    "unsupported",
    `Cannot mount without root: ${PROGRAM} is not installed; install the package fuse3`,
  );
}

/** Before anything is fetched. @throws what an ordinary user is told */
export function checkUserMay(
  image: string,
  { driver, writable }: { readonly driver: Driver; readonly writable: boolean },
): void {
  if (driver !== "auto" && driver !== "fuse")
    throw new NydusError(
      "denied",
      `Cannot mount "${image}" with driver ${driver}: it needs root; --driver fuse does not`,
    );
  if (writable)
    throw new NydusError("denied", `Cannot mount "${image}" writable: the overlay on top needs root`);
  findFusermount();
}

/**
 * Neither allow_other nor default_permissions: only this user may enter, and sees everything, whatever the image's modes
 * say of its owners.
 *
 * @returns the descriptor of the file system
 */
export async function mountAsUser({ mountpoint, source, maxRead }: UserMount): Promise<number> {
  const program = findFusermount();
  const pair = streamPair();
  if (typeof pair === "number")
    throw new NydusError("internal", `Cannot mount FUSE on "${mountpoint}": ${errnoName(-pair)}`);
  const [ours, theirs] = pair;
  try {
    const options = `ro,nosuid,nodev,fsname=${source},subtype=nydus,max_read=${maxRead}`;
    const complaint = await runWithSocket([program, "-o", options, "--", mountpoint], theirs);
    if (complaint !== undefined)
      throw new NydusError("denied", `Cannot mount FUSE on "${mountpoint}": ${complaint}`);
    // It has ended: the descriptor is in the socket, or will never be.
    const fd = receiveDescriptor(ours);
    if (fd >= 0) return fd;
    throw new NydusError("internal", `Cannot mount FUSE on "${mountpoint}": ${PROGRAM} sent no descriptor`);
  } finally {
    close(ours);
  }
}

/** @returns what it complained about, when it failed. Our copy of the socket is closed. */
async function runWithSocket(words: readonly string[], socket: number): Promise<string | undefined> {
  try {
    const child = Bun.spawn([...words], {
      stdio: ["ignore", "ignore", "pipe", socket],
      env: { [SOCKET_VARIABLE]: `${SOCKET_FD}` },
      cwd: "/",
    });
    const said = await new Response(child.stderr).text();
    return (await child.exited) === 0 ? undefined : complaintOf(said);
  } finally {
    close(socket);
  }
}

/** @throws busy when somebody uses the file system, unless `detach` */
export function unmountAsUser(mountpoint: string, options: { readonly detach?: boolean } = {}): void {
  const flags = options.detach === true ? ["-u", "-z"] : ["-u"];
  const { exitCode, stderr } = Bun.spawnSync([findFusermount(), ...flags, "--", mountpoint], {
    stdio: ["ignore", "ignore", "pipe"],
    env: {},
    cwd: "/",
  });
  if (exitCode === 0) return;
  const complaint = complaintOf(stderr.toString());
  if (/busy/i.test(complaint)) throw new NydusError("busy", `Cannot unmount "${mountpoint}": it is in use`);
  throw new NydusError("denied", `Cannot unmount "${mountpoint}": ${complaint}`);
}

/** Its last line, without its name. */
export function complaintOf(stderr: string): string {
  const line = stderr.trim().split("\n").at(-1) ?? "";
  return line.replace(/^\S*fusermount3: /, "") || `${PROGRAM} failed and did not say why`;
}
