/**
 * The flat directory of blob files that EROFS mounts use as devices. It shows every image's data, so the directory
 * that it is mounted in lets only root enter.
 *
 * @module
 */
import { ATTR, ATTR_OUT, DIRENT, ENTRY_OUT, OP, READ_IN, ROOT_NODE } from "../../ffi/fuse.ts";
import { ERRNO } from "../../ffi/libc.ts";
import type { DeviceSet } from "./device-set.ts";
import type { FuseChannel } from "./fuse-channel.ts";
import type { Device } from "./fuse-messages.ts";

/** Names and attributes never change while they exist. Seconds. */
const FOREVER = 1_000_000;
const DIRECTORY = 0o040700;
const FILE = 0o100400;
/** Node ids: 1 is the root. */
const FIRST_NODE = 2;

export class DeviceOperations {
  readonly #devices: DeviceSet;

  constructor(devices: DeviceSet) {
    this.#devices = devices;
  }

  handle(channel: FuseChannel, length: number): void {
    switch (channel.opcode) {
      case OP.LOOKUP:
        return this.#lookup(channel, length);
      case OP.GETATTR:
        return this.#getattr(channel);
      case OP.READ:
        return this.#read(channel);
      case OP.READDIR:
        return this.#readdir(channel);
      case OP.STATFS:
        return channel.answerStatfs(0);
      default:
        return channel.sendError(ERRNO.ENOSYS);
    }
  }

  #lookup(channel: FuseChannel, length: number): void {
    const name = Buffer.from(channel.name(0, length)).toString("latin1");
    const device = channel.node === ROOT_NODE ? this.#devices.named(name) : undefined;
    if (device === undefined) return channel.sendError(ERRNO.ENOENT);
    channel.clear(ENTRY_OUT.SIZE);
    channel.put64(ENTRY_OUT.NODE, device.index + FIRST_NODE);
    channel.put64(ENTRY_OUT.ENTRY_VALID, FOREVER);
    channel.put64(ENTRY_OUT.ATTR_VALID, FOREVER);
    putAttributes(channel, ENTRY_OUT.ATTR, device);
    channel.send(ENTRY_OUT.SIZE);
  }

  #getattr(channel: FuseChannel): void {
    const { node } = channel;
    const device = node === ROOT_NODE ? undefined : this.#devices.get(node - FIRST_NODE);
    if (node !== ROOT_NODE && device === undefined) return channel.sendError(ERRNO.ENOENT);
    channel.clear(ATTR_OUT.SIZE);
    channel.put64(ATTR_OUT.ATTR_VALID, FOREVER);
    putAttributes(channel, ATTR_OUT.ATTR, device);
    channel.send(ATTR_OUT.SIZE);
  }

  #read(channel: FuseChannel): void {
    const device = this.#devices.get(channel.node - FIRST_NODE);
    if (device === undefined) return channel.sendError(ERRNO.EIO);
    const offset = channel.u64(READ_IN.OFFSET);
    const size = Math.max(Math.min(channel.u32(READ_IN.SIZE), device.size - offset), 0);
    if (this.#devices.tryRead(channel, device, offset, size, 0)) channel.send(size);
    else this.#devices.passOn(channel, [device.index, offset, size]);
  }

  #readdir(channel: FuseChannel): void {
    const from = channel.u64(READ_IN.OFFSET);
    const room = channel.u32(READ_IN.SIZE);
    let at = 0;
    for (const device of this.#devices.all()) {
      if (device.index < from) continue;
      const size = (DIRENT.SIZE + device.name.length + 7) & ~7;
      if (at + size > room) break;
      channel.reply.fill(0, 16 + at, 16 + at + size);
      channel.put64(at + DIRENT.INO, device.index + FIRST_NODE);
      channel.put64(at + DIRENT.OFFSET, device.index + 1);
      channel.put32(at + DIRENT.NAME_LENGTH, device.name.length);
      channel.put32(at + DIRENT.TYPE, FILE >> 12);
      channel.putBytes(at + DIRENT.SIZE, Buffer.from(device.name, "latin1"));
      at += size;
    }
    channel.send(at);
  }
}

function putAttributes(channel: FuseChannel, at: number, device: Device | undefined): void {
  channel.put64(at + ATTR.INO, device === undefined ? ROOT_NODE : device.index + FIRST_NODE);
  channel.put64(at + ATTR.LENGTH, device?.size ?? 0);
  channel.put64(at + ATTR.BLOCKS, (device?.size ?? 0) / 512);
  channel.put32(at + ATTR.MODE, device === undefined ? DIRECTORY : FILE);
  channel.put32(at + ATTR.NLINK, device === undefined ? 2 : 1);
  channel.put32(at + ATTR.BLKSIZE, 4096);
}
