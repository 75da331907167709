/**
 * A serving thread: blocks on the FUSE descriptor, answers what it can, passes on what needs fetching. The thread never
 * returns to its event loop while a file system lives.
 *
 * @module
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { type MessagePort, parentPort } from "node:worker_threads";
import { OP } from "../../ffi/fuse.ts";
import { ERRNO, type MappedFile, mapFile } from "../../ffi/libc.ts";
import { MEANINGS, toNydusError } from "../base/error.ts";
import { openImage } from "../rafs/image.ts";
import { DeviceOperations } from "./device-operations.ts";
import { DeviceSet } from "./device-set.ts";
import { FuseChannel } from "./fuse-channel.ts";
import type { FromWorker, WorkerSetup } from "./fuse-messages.ts";
import { TreeOperations } from "./tree-operations.ts";

/**
 * Requests for names and attributes between two collections, which take some 8 ms each. What answering them leaves is
 * collected by itself, but its memory goes back only so: 30 MB after a tree of 17,000 files.
 */
const COLLECT_EVERY = 4096;

interface Operations {
  handle(channel: FuseChannel, length: number): void;
}

type Tell = (message: FromWorker) => void;

function mapped(path: string): MappedFile {
  const fd = openSync(path, "r");
  try {
    return mapFile(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}

/** A thread that ended by an error would leave its readers, and every sync(2) on the machine, waiting for ever. */
function handle(channel: FuseChannel, length: number, served: Operations, send: Tell): void {
  try {
    served.handle(channel, length);
  } catch (error) {
    const known = toNydusError(error, "answer the kernel");
    channel.sendError(MEANINGS[known.code].errno);
    send({ kind: "failed", message: known.message });
  }
}

function serve(channel: FuseChannel, served: Operations, send: Tell): number {
  for (let left = COLLECT_EVERY; ; ) {
    const length = channel.receive();
    if (length <= 0) return -length;
    switch (channel.opcode) {
      case OP.INIT:
        channel.answerInit();
        break;
      case OP.FORGET:
      case OP.BATCH_FORGET:
        // Node ids are computed, not counted; these take no reply.
        break;
      case OP.INTERRUPT:
        send({ kind: "interrupt", uniqueLow: channel.u32(0), uniqueHigh: channel.u32(4) });
        break;
      case OP.DESTROY:
        channel.sendError(0);
        return ERRNO.ENODEV;
      default:
        handle(channel, length, served, send);
        if (!(served instanceof TreeOperations) || --left > 0) break;
        Bun.gc(true);
        left = COLLECT_EVERY;
    }
  }
}

/** Its buffers serve all file systems. */
const channel = new FuseChannel(-1);
const send: Tell = (message) => parentPort?.postMessage(message);

/** One file system after another. */
parentPort?.on("message", (setup: WorkerSetup & { inbox: MessagePort }) => {
  const devices = new DeviceSet(setup.devices, setup.inbox, send);
  const bootstrap = setup.bootstrap === undefined ? undefined : mapped(setup.bootstrap.path);
  const operations =
    bootstrap === undefined
      ? new DeviceOperations(devices)
      : new TreeOperations(openImage(bootstrap.bytes), devices);
  channel.fd = setup.fd;
  const errno = serve(channel, operations, send);
  // A removed image's file would take room on the disk for as long as the process lives.
  bootstrap?.unmap();
  send({ kind: "ended", errno });
});
