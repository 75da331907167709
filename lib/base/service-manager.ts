/**
 * What a service tells systemd (sd_notify(3)): that it is ready, and descriptors that outlive it in the service's
 * store (`FileDescriptorStoreMax=`), for the next start.
 *
 * @module
 */
import { close, errnoName } from "../../ffi/libc.ts";
import { datagramSocket, sendTo } from "../../ffi/unix-socket.ts";
import type { Logger } from "./log.ts";
import type { Environment } from "./systemd.ts";

/** Keeps descriptors by name when this process ends. */
export interface DescriptorStore {
  put(name: string, fd: number): void;
  remove(name: string): void;
}

export class ServiceManager implements DescriptorStore {
  readonly #socket: string;
  readonly #log: Logger;

  private constructor(socket: string, log: Logger) {
    this.#socket = socket;
    this.#log = log;
  }

  /** @returns undefined when nobody wants to be told */
  static of(environment: Environment, log: Logger): ServiceManager | undefined {
    const { NOTIFY_SOCKET: socket } = environment;
    return socket === undefined || socket === "" ? undefined : new ServiceManager(socket, log);
  }

  ready(): void {
    this.#tell("READY=1");
  }

  stopping(): void {
    this.#tell("STOPPING=1");
  }

  put(name: string, fd: number): void {
    // FDPOLL=0: systemd would drop one whose file system is gone, and only we know when that is.
    this.#tell(`FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`, fd);
  }

  remove(name: string): void {
    this.#tell(`FDSTOREREMOVE=1\nFDNAME=${name}`);
  }

  /** Best effort: without systemd's help everything works but a stop of everything. */
  #tell(message: string, fd?: number): void {
    const socket = datagramSocket();
    const sent = socket < 0 ? socket : sendTo(socket, this.#socket, Buffer.from(message), fd);
    if (socket >= 0) close(socket);
    if (sent < 0) this.#log.warn("cannot talk to the service manager", { error: errnoName(-sent) });
  }
}
