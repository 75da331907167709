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
import { openImage } from "../rafs/image.ts";
import { DeviceOperations } from "./device-operations.ts";
import { DeviceSet } from "./device-set.ts";
import { FuseChannel } from "./fuse-channel.ts";
import type { FromWorker, WorkerSetup } from "./fuse-messages.ts";
import { TreeOperations } from "./tree-operations.ts";

interface Operations {
  handle(channel: FuseChannel, length: number): void;
}

function mapped(path: string): MappedFile {
  const fd = openSync(path, "r");
  try {
    return mapFile(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}

function serve(channel: FuseChannel, served: Operations, send: (message: FromWorker) => void): number {
  for (;;) {
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
        served.handle(channel, length);
    }
  }
}

/** Its buffers serve all file systems. */
const channel = new FuseChannel(-1);
const send = (message: FromWorker): void => parentPort?.postMessage(message);

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
