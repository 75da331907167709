/**
 * Unix sockets that carry descriptors (unix(7), SCM_RIGHTS), which Bun's own do not. Results are -errno on failure.
 *
 * @module
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { lastErrno } from "./libc.ts";

const { i32, i64_fast, ptr: pointer } = FFIType;

const libc = dlopen("libc.so.6", {
  /** int socket(int domain, int type, int protocol) */
  socket: { args: [i32, i32, i32], returns: i32 },
  /** int socketpair(int domain, int type, int protocol, int sv[2]) */
  socketpair: { args: [i32, i32, i32, pointer], returns: i32 },
  /** ssize_t sendmsg(int fd, const struct msghdr *msg, int flags) */
  sendmsg: { args: [i32, pointer, i32], returns: i64_fast },
  /** ssize_t recvmsg(int fd, struct msghdr *msg, int flags) */
  recvmsg: { args: [i32, pointer, i32], returns: i64_fast },
}).symbols;

const AF_UNIX = 1;
const SOCK = { STREAM: 1, DGRAM: 2, CLOEXEC: 0o2000000 } as const;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG = { NOSIGNAL: 0x4000, CMSG_CLOEXEC: 0x4000_0000 } as const;

/** struct msghdr and struct cmsghdr of 64-bit Linux; a descriptor follows the latter, padded to 8. */
const MSGHDR = { SIZE: 56, NAME: 0, NAME_LENGTH: 8, IOV: 16, IOV_COUNT: 24, CONTROL: 32, CONTROL_LENGTH: 40 };
const CMSGHDR = { SIZE: 16, LENGTH: 0, LEVEL: 8, TYPE: 12 } as const;
const DESCRIPTOR = 4;
const CONTROL_SIZE = CMSGHDR.SIZE + 8;
/** struct sockaddr_un { sa_family_t family; char path[108]; } */
const ADDRESS = { PATH: 2, MOST: 108 } as const;

export function datagramSocket(): number {
  return checked(libc.socket(AF_UNIX, SOCK.DGRAM | SOCK.CLOEXEC, 0));
}

/** Two connected stream sockets. */
export function streamPair(): readonly [number, number] | number {
  const pair = new Int32Array(2);
  const result = checked(libc.socketpair(AF_UNIX, SOCK.STREAM | SOCK.CLOEXEC, 0, ptr(pair)));
  return result < 0 ? result : [pair[0] ?? -1, pair[1] ?? -1];
}

/**
 * One datagram, with a descriptor if given.
 *
 * @param path of the socket; a first "@" stands for the NUL of an abstract name
 */
export function sendTo(socket: number, path: string, data: Uint8Array, descriptor?: number): number {
  const name = Buffer.from(path, "utf8");
  if (name.byteLength >= ADDRESS.MOST) throw new RangeError(`Cannot send to "${path}": the path is too long`);
  const address = new Uint8Array(ADDRESS.PATH + name.byteLength + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, ADDRESS.PATH);
  const abstract = path.startsWith("@");
  if (abstract) address[ADDRESS.PATH] = 0;
  // The length of an abstract name counts; that of a path may include its NUL.
  const destination = abstract ? address.subarray(0, -1) : address;
  const message = new Message(
    data,
    descriptor === undefined ? undefined : controlOf(descriptor),
    destination,
  );
  return checked(Number(libc.sendmsg(socket, message.address, MSG.NOSIGNAL)));
}

/** Blocks for a message. @returns the descriptor in it, or -errno; -EBADMSG when it has none */
export function receiveDescriptor(socket: number): number {
  const control = new Uint8Array(CONTROL_SIZE);
  const message = new Message(new Uint8Array(64), control);
  const count = checked(Number(libc.recvmsg(socket, message.address, MSG.CMSG_CLOEXEC)));
  if (count < 0) return count;
  const view = new DataView(control.buffer);
  const rights =
    count > 0 &&
    Number(view.getBigUint64(CMSGHDR.LENGTH, true)) === CMSGHDR.SIZE + DESCRIPTOR &&
    view.getInt32(CMSGHDR.LEVEL, true) === SOL_SOCKET &&
    view.getInt32(CMSGHDR.TYPE, true) === SCM_RIGHTS;
  return rights ? view.getInt32(CMSGHDR.SIZE, true) : -EBADMSG;
}

const EBADMSG = 74;

function controlOf(descriptor: number): Uint8Array {
  const control = new Uint8Array(CONTROL_SIZE);
  const view = new DataView(control.buffer);
  view.setBigUint64(CMSGHDR.LENGTH, BigInt(CMSGHDR.SIZE + DESCRIPTOR), true);
  view.setInt32(CMSGHDR.LEVEL, SOL_SOCKET, true);
  view.setInt32(CMSGHDR.TYPE, SCM_RIGHTS, true);
  view.setInt32(CMSGHDR.SIZE, descriptor, true);
  return control;
}

/** A msghdr, together with everything that it points to: while it is referenced, so are they. */
class Message {
  readonly parts: readonly (Uint8Array | undefined)[];
  readonly #header = new Uint8Array(MSGHDR.SIZE);
  readonly #vector = new BigUint64Array(2);

  constructor(data: Uint8Array, control?: Uint8Array, name?: Uint8Array) {
    this.parts = [data, control, name];
    this.#vector.set([BigInt(ptr(data)), BigInt(data.byteLength)]);
    const view = new DataView(this.#header.buffer);
    const put = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
    if (name !== undefined) {
      put(MSGHDR.NAME, ptr(name));
      view.setUint32(MSGHDR.NAME_LENGTH, name.byteLength, true);
    }
    put(MSGHDR.IOV, ptr(this.#vector));
    put(MSGHDR.IOV_COUNT, 1);
    if (control === undefined) return;
    put(MSGHDR.CONTROL, ptr(control));
    put(MSGHDR.CONTROL_LENGTH, control.byteLength);
  }

  get address(): ReturnType<typeof ptr> {
    return ptr(this.#header);
  }
}

function checked(result: number): number {
  return result < 0 ? -lastErrno() : result;
}
