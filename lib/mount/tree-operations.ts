/**
 * A whole RAFS file system in user space: metadata from the mapped bootstrap, data from the devices. Used where the
 * kernel cannot mount EROFS from files. Nothing ever changes, so the kernel may keep all it learns.
 *
 * @module
 */
import { ATTR, ATTR_OUT, DIRENT, ENTRY_OUT, OP, OUT, READ_IN, ROOT_NODE, XATTR } from "../../ffi/fuse.ts";
import { ERRNO } from "../../ffi/libc.ts";
import { byteString } from "../base/byte-string.ts";
import { isRoot } from "../base/self.ts";
import type { DirectoryEntry, InodeAttributes } from "../rafs/bootstrap.ts";
import type { RafsImage } from "../rafs/image.ts";
import type { DeviceSet } from "./device-set.ts";
import type { FuseChannel } from "./fuse-channel.ts";

/** Seconds. */
const FOREVER = 1_000_000;
/** Node 1 is the root; other nodes are their nid plus this. */
const NODE_BASE = 2;

export class TreeOperations {
  readonly #image: RafsImage;
  readonly #devices: DeviceSet;

  constructor(image: RafsImage, devices: DeviceSet) {
    this.#image = image;
    this.#devices = devices;
  }

  /** @throws corrupt when the bootstrap is not what it was when it was checked */
  handle(channel: FuseChannel, length: number): void {
    switch (channel.opcode) {
      case OP.LOOKUP:
        return this.#lookup(channel, length);
      case OP.GETATTR:
        return this.#getattr(channel);
      case OP.READ:
        return this.#read(channel);
      case OP.READDIR:
        return this.#readdir(channel, false);
      case OP.READDIRPLUS:
        return this.#readdir(channel, true);
      case OP.READLINK:
        return this.#sendBytes(channel, this.#image.readlink(this.#nid(channel.node)));
      case OP.GETXATTR:
        return this.#getxattr(channel, length);
      case OP.LISTXATTR:
        return this.#listxattr(channel);
      case OP.STATFS:
        return this.#statfs(channel);
      default:
        return channel.sendError(ERRNO.ENOSYS);
    }
  }

  #nid(node: number): number {
    return node === ROOT_NODE ? this.#image.rootNid : node - NODE_BASE;
  }

  #node(nid: number): number {
    return nid === this.#image.rootNid ? ROOT_NODE : nid + NODE_BASE;
  }

  #lookup(channel: FuseChannel, length: number): void {
    const name = byteString(channel.name(0, length));
    const nid = this.#image.lookup(this.#nid(channel.node), name);
    channel.clear(ENTRY_OUT.SIZE);
    // Node 0: "does not exist", which the kernel may remember for as long as entry_valid says.
    if (nid === undefined) channel.put64(ENTRY_OUT.ENTRY_VALID, FOREVER);
    else this.#putEntry(channel, 0, this.#image.inode(nid));
    channel.send(ENTRY_OUT.SIZE);
  }

  #putEntry(channel: FuseChannel, at: number, inode: InodeAttributes): void {
    channel.put64(at + ENTRY_OUT.NODE, this.#node(inode.nid));
    channel.put64(at + ENTRY_OUT.ENTRY_VALID, FOREVER);
    channel.put64(at + ENTRY_OUT.ATTR_VALID, FOREVER);
    this.#putAttributes(channel, at + ENTRY_OUT.ATTR, inode);
  }

  #putAttributes(channel: FuseChannel, at: number, inode: InodeAttributes): void {
    channel.put64(at + ATTR.INO, this.#node(inode.nid));
    channel.put64(at + ATTR.LENGTH, inode.size);
    channel.put64(at + ATTR.BLOCKS, Math.ceil(inode.size / 512));
    for (const [seconds, nanoseconds] of TIMES) {
      channel.put64(at + seconds, inode.mtime);
      channel.put32(at + nanoseconds, inode.mtimeNs);
    }
    channel.put32(at + ATTR.MODE, inode.mode);
    channel.put32(at + ATTR.NLINK, inode.nlink);
    channel.put32(at + ATTR.UID, inode.uid);
    channel.put32(at + ATTR.GID, inode.gid);
    channel.put32(at + ATTR.RDEV, inode.rdev);
    channel.put32(at + ATTR.BLKSIZE, 4096);
  }

  #getattr(channel: FuseChannel): void {
    const inode = this.#image.inode(this.#nid(channel.node));
    channel.clear(ATTR_OUT.SIZE);
    channel.put64(ATTR_OUT.ATTR_VALID, FOREVER);
    this.#putAttributes(channel, ATTR_OUT.ATTR, inode);
    channel.send(ATTR_OUT.SIZE);
  }

  #read(channel: FuseChannel): void {
    const nid = this.#nid(channel.node);
    const offset = channel.u64(READ_IN.OFFSET);
    const size = channel.u32(READ_IN.SIZE);
    const extents = this.#image.extents(nid, offset, size);
    let at = 0;
    let hit = true;
    for (const extent of extents) {
      const device = this.#devices.get(extent.blob);
      if (device === undefined) return channel.sendError(ERRNO.EIO);
      hit = hit && this.#devices.tryRead(channel, device, extent.offset, extent.length, at);
      at += extent.length;
    }
    if (hit) channel.send(at);
    else
      this.#devices.passOn(
        channel,
        extents.flatMap((e) => [e.blob, e.offset, e.length]),
      );
  }

  #readdir(channel: FuseChannel, plus: boolean): void {
    const from = channel.u64(READ_IN.OFFSET);
    const room = channel.u32(READ_IN.SIZE);
    let at = 0;
    let position = 0;
    for (const entry of this.#image.readdir(this.#nid(channel.node))) {
      if (position++ < from) continue;
      const size = this.#putDirent(channel, at, room, entry, position, plus);
      if (size === 0) break;
      at += size;
    }
    channel.send(at);
  }

  /** @returns bytes used, 0 when the entry does not fit */
  #putDirent(
    channel: FuseChannel,
    at: number,
    room: number,
    entry: DirectoryEntry,
    next: number,
    plus: boolean,
  ): number {
    const head = plus ? ENTRY_OUT.SIZE : 0;
    const size = (head + DIRENT.SIZE + entry.name.length + 7) & ~7;
    if (at + size > room) return 0;
    channel.reply.fill(0, OUT.SIZE + at, OUT.SIZE + at + size);
    const inode = this.#image.inode(entry.nid);
    // The kernel wants no entry for the dot names: it knows them.
    if (plus && entry.name !== "." && entry.name !== "..") this.#putEntry(channel, at, inode);
    const dirent = at + head;
    channel.put64(dirent + DIRENT.INO, this.#node(entry.nid));
    channel.put64(dirent + DIRENT.OFFSET, next);
    channel.put32(dirent + DIRENT.NAME_LENGTH, entry.name.length);
    channel.put32(dirent + DIRENT.TYPE, inode.mode >> 12);
    channel.putBytes(dirent + DIRENT.SIZE, Buffer.from(entry.name, "latin1"));
    return size;
  }

  #getxattr(channel: FuseChannel, length: number): void {
    const key = byteString(channel.name(XATTR.IN_SIZE, length));
    const value = this.#image.xattrs(this.#nid(channel.node)).get(key);
    if (value === undefined) return channel.sendError(ERRNO.ENODATA);
    this.#sendXattr(channel, value);
  }

  #listxattr(channel: FuseChannel): void {
    const keys = [...this.#image.xattrs(this.#nid(channel.node)).keys()].filter(isVisible);
    this.#sendXattr(channel, Buffer.from(keys.map((key) => `${key}\0`).join(""), "latin1"));
  }

  /** Size 0 in the request asks how much room is needed. */
  #sendXattr(channel: FuseChannel, value: Uint8Array): void {
    const room = channel.u32(0);
    if (room !== 0 && value.byteLength > room) return channel.sendError(ERRNO.ERANGE);
    if (room !== 0) return this.#sendBytes(channel, value);
    channel.clear(XATTR.OUT_SIZE);
    channel.put32(0, value.byteLength);
    channel.send(XATTR.OUT_SIZE);
  }

  #sendBytes(channel: FuseChannel, bytes: Uint8Array): void {
    channel.putBytes(0, bytes);
    channel.send(bytes.byteLength);
  }

  #statfs(channel: FuseChannel): void {
    const blocks = this.#image.blobs.reduce((sum, blob) => sum + Math.ceil(blob.uncompressedSize / 4096), 0);
    channel.answerStatfs(blocks);
  }
}

/** xattr(7): the kernel gives these to nobody else; file systems are to leave them out of lists themselves. */
function isVisible(key: string): boolean {
  return isRoot() || !key.startsWith("trusted.");
}

const TIMES = [
  [ATTR.ATIME, ATTR.ATIME_NS],
  [ATTR.MTIME, ATTR.MTIME_NS],
  [ATTR.CTIME, ATTR.CTIME_NS],
] as const;
