/**
 * One FUSE file system: the descriptor, the mount, the serving threads, and the replies to reads that had to wait for
 * data.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import { MAX_READ, NOTIFY_RESEND, OUT } from "../../ffi/fuse.ts";
import {
  addressOf,
  close,
  disconnect,
  ERRNO,
  errnoName,
  MNT,
  MS,
  mount,
  O,
  open,
  umount,
  writeAt,
} from "../../ffi/libc.ts";
import { MEANINGS, NydusError, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { isRoot } from "../base/self.ts";
import type { BlobReader } from "../blob/reader.ts";
import { DelayedReply } from "./fuse-channel.ts";
import type { Device, MissedRead, ToWorker } from "./fuse-messages.ts";
import type { FuseThread, FuseThreads } from "./fuse-threads.ts";
import { mountAsUser, unmountAsUser } from "./fusermount.ts";
import { mountAt } from "./mount-table.ts";
import { ReplyBuffers } from "./reply-buffers.ts";

export interface FuseSessionOptions {
  /** Of the session, for whoever keeps its descriptor: letters, digits and "-". */
  readonly name: string;
  readonly mountpoint: string;
  /** Shown as the mount's source. */
  readonly source: string;
  /** Serve this bootstrap as a file system; without it, the flat directory of devices. */
  readonly bootstrap?: string;
  readonly devices: readonly Device[];
  readonly readers: ReadonlyMap<number, BlobReader>;
  /** Any user may enter; what they may do there is decided by the image's modes. */
  readonly allowOther: boolean;
  readonly threads: FuseThreads;
  readonly log: Logger;
}

/** For one file system. Two keep both of a small node's cores reading. */
const THREADS = 2;

/** Without users a file system is gone at once. */
const LAST_USER_MS = 1000;

export class FuseSession implements AsyncDisposable {
  readonly name: string;
  readonly mountpoint: string;
  readonly #fd: number;
  readonly #log: Logger;
  readonly #readers: Map<number, BlobReader>;
  readonly #threads: readonly FuseThread[];
  /** Requests that wait for data, by their unique number. */
  readonly #waiting = new Map<string, DelayedReply>();
  readonly #buffers = new ReplyBuffers();
  #mounted = true;

  private constructor(fd: number, options: FuseSessionOptions) {
    this.name = options.name;
    this.mountpoint = options.mountpoint;
    this.#fd = fd;
    this.#log = options.log;
    this.#readers = new Map(options.readers);
    this.#threads = Array.from({ length: THREADS }, () => this.#startThread(options));
  }

  static mount(options: FuseSessionOptions): FuseSession {
    const fd = open("/dev/fuse", O.RDWR);
    if (fd < 0) throw new NydusError("unsupported", `Cannot open "/dev/fuse": ${errnoName(-fd)}`);
    const access = options.allowOther ? ",allow_other,default_permissions" : "";
    const data = `fd=${fd},rootmode=40000,user_id=0,group_id=0,max_read=${MAX_READ}${access}`;
    const flags = MS.RDONLY | (options.bootstrap === undefined ? MS.NOSUID | MS.NODEV : 0);
    const result = mount(options.source, options.mountpoint, "fuse.nydus", flags, data);
    if (result < 0) {
      close(fd);
      throw new NydusError("internal", `Cannot mount FUSE on "${options.mountpoint}": ${errnoName(-result)}`);
    }
    const session = new FuseSession(fd, options);
    if (options.bootstrap !== undefined) session.#raiseReadAhead();
    return session;
  }

  /** The same for an ordinary user, who may not set the kernel's read-ahead. */
  static async mountAsUser(options: FuseSessionOptions): Promise<FuseSession> {
    const { mountpoint, source } = options;
    return new FuseSession(await mountAsUser({ mountpoint, source, maxRead: MAX_READ }), options);
  }

  /**
   * Goes on serving a file system whose server died, on the descriptor that somebody kept. The kernel queues again what
   * the dead server had read and not answered, so its readers only waited.
   */
  static adopt(fd: number, options: FuseSessionOptions): FuseSession {
    const session = new FuseSession(fd, options);
    const resend = new Uint8Array(OUT.SIZE);
    const view = new DataView(resend.buffer);
    view.setUint32(OUT.LENGTH, OUT.SIZE, true);
    // A notification: no request's number, and its code in the place of the error.
    view.setInt32(OUT.ERROR, NOTIFY_RESEND, true);
    const written = writeAt(fd, addressOf(resend), resend.byteLength);
    if (written < 0) options.log.warn("the kernel resends no requests", { errno: errnoName(-written) });
    return session;
  }

  /** For a process that is to keep the file system alive when this one dies. */
  get descriptor(): number {
    return this.#fd;
  }

  #startThread({ threads, devices, bootstrap }: FuseSessionOptions): FuseThread {
    const image = bootstrap === undefined ? {} : { bootstrap: { path: bootstrap } };
    return threads.start({
      setup: { fd: this.#fd, devices, ...image },
      onMessage: (message) => {
        if (message.kind === "read") void this.#answer(message);
        else if (message.kind === "failed") this.#log.error(message.message, { mountpoint: this.mountpoint });
        else this.#interrupt(message.uniqueLow, message.uniqueHigh);
      },
      onError: (error) => this.#log.error(toNydusError(error, `serve "${this.mountpoint}"`).message),
    });
  }

  /**
   * FUSE takes the smaller of its default (128 KiB) and what we said; the rest is set from outside. Not for the devices of
   * EROFS: it has read ahead already, and what lies behind a file in its blob is another file. With 1 MiB there, reading
   * everything took 5 to 20% longer, and each start read other bytes than the one before.
   */
  #raiseReadAhead(): void {
    try {
      // Not by stat(2): this process answers that call itself.
      const device = mountAt(this.mountpoint)?.device ?? "";
      writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, `${MAX_READ >> 10}`);
    } catch (error) {
      this.#log.debug(toNydusError(error, `raise the read-ahead of "${this.mountpoint}"`).message);
    }
  }

  /** Resolves when the file system is gone: unmounted by us or by anybody. */
  get ended(): Promise<void> {
    return Promise.all(this.#threads.map((thread) => thread.ended)).then(() => undefined);
  }

  add(device: Device, reader: BlobReader): void {
    this.#readers.set(device.index, reader);
    this.#tell({ kind: "add", device });
  }

  remove(index: number): void {
    this.#readers.delete(index);
    this.#tell({ kind: "remove", index });
  }

  #tell(message: ToWorker): void {
    for (const thread of this.#threads) thread.inbox.postMessage(message);
  }

  async #answer(request: MissedRead): Promise<void> {
    const { uniqueLow, uniqueHigh, pieces } = request;
    const key = `${uniqueHigh}:${uniqueLow}`;
    let size = 0;
    for (let i = 2; i < pieces.length; i += 3) size += pieces[i] ?? 0;
    const room = this.#buffers.take(size);
    const reply = new DelayedReply(uniqueLow, uniqueHigh, size, room);
    this.#waiting.set(key, reply);
    try {
      await this.#fill(reply.data, pieces);
      if (this.#waiting.get(key) === reply) reply.send(this.#fd);
      // Not after an error: of several reads that fill it one may still be under way.
      this.#buffers.giveBack(room);
    } catch (error) {
      const known = toNydusError(error, "answer a read");
      if (this.#waiting.get(key) !== reply) return;
      this.#log.error(known.message);
      reply.sendError(this.#fd, MEANINGS[known.code].errno);
    } finally {
      if (this.#waiting.get(key) === reply) this.#waiting.delete(key);
    }
  }

  async #fill(data: Uint8Array, pieces: readonly number[]): Promise<void> {
    const reads: Promise<void>[] = [];
    let at = 0;
    for (let i = 0; i + 2 < pieces.length; i += 3) {
      const [index = -1, offset = 0, length = 0] = pieces.slice(i, i + 3);
      const reader = this.#readers.get(index);
      if (reader === undefined) throw new NydusError("internal", `Cannot read device ${index}: it is gone`);
      reads.push(reader.read(offset, data.subarray(at, at + length)));
      at += length;
    }
    await Promise.all(reads);
  }

  /** The reader was killed: it need not wait for the data, which still arrives for others. */
  #interrupt(uniqueLow: number, uniqueHigh: number): void {
    const key = `${uniqueHigh}:${uniqueLow}`;
    const reply = this.#waiting.get(key);
    if (reply === undefined) return;
    this.#waiting.delete(key);
    reply.sendError(this.#fd, ERRNO.EINTR);
  }

  /** @throws busy when somebody uses the file system, unless `force` */
  async unmount(options: { readonly force?: boolean } = {}): Promise<void> {
    if (!this.#mounted) return;
    const force = options.force === true;
    this.#umount(force);
    this.#mounted = false;
    if (force && !isRoot() && !(await this.#endsSoon())) return this.#desert();
    await this.ended;
    for (const thread of this.#threads) await thread.release();
    // Who waited has got an error from the kernel. Late replies would go to whatever has this number next.
    this.#waiting.clear();
    close(this.#fd);
  }

  async #endsSoon(): Promise<boolean> {
    return await Promise.race([this.ended.then(() => true), Bun.sleep(LAST_USER_MS).then(() => false)]);
  }

  /**
   * Ordinary users cannot end a file system that somebody uses: it ends with the processes that hold its descriptor. Until
   * this one ends, threads may sit in read(2) of it, and must not answer from files that are closed.
   */
  #desert(): void {
    this.#log.warn("unmounted in use: its users get errors when this process ends", {
      mountpoint: this.mountpoint,
    });
    disconnect(this.#fd);
  }

  /** Somebody else may have unmounted it already. */
  #umount(force: boolean): void {
    if (!isRoot()) {
      if (mountAt(this.mountpoint) !== undefined) unmountAsUser(this.mountpoint, { detach: force });
      return;
    }
    const result = umount(this.mountpoint, force ? MNT.DETACH | MNT.FORCE : 0);
    if (result === -ERRNO.EBUSY)
      throw new NydusError("busy", `Cannot unmount "${this.mountpoint}": it is in use`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount({ force: true });
  }
}
