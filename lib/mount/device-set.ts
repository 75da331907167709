/**
 * The devices a worker knows. New ones arrive as messages; since workers block in the kernel, they look for messages
 * only when they meet a name or number they do not know.
 *
 * @module
 */
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { readReady } from "../blob/cache-view.ts";
import { setReady } from "../blob/ready-map.ts";
import type { FuseChannel } from "./fuse-channel.ts";
import { COUNTER, type Device, type FromWorker, type ToWorker } from "./fuse-messages.ts";

export class DeviceSet {
  readonly #byIndex = new Map<number, Device>();
  readonly #byName = new Map<string, Device>();
  readonly #inbox: MessagePort;
  readonly #send: (message: FromWorker) => void;

  constructor(devices: readonly Device[], inbox: MessagePort, send: (message: FromWorker) => void) {
    for (const device of devices) this.#add(device);
    this.#inbox = inbox;
    this.#send = send;
  }

  get(index: number): Device | undefined {
    const known = this.#byIndex.get(index);
    if (known !== undefined) return known;
    this.#catchUp();
    return this.#byIndex.get(index);
  }

  named(name: string): Device | undefined {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    this.#catchUp();
    return this.#byName.get(name);
  }

  all(): IterableIterator<Device> {
    this.#catchUp();
    return this.#byIndex.values();
  }

  #add(device: Device): void {
    this.#byIndex.set(device.index, device);
    this.#byName.set(device.name, device);
  }

  #catchUp(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#inbox) as { message: ToWorker } | undefined;
      if (received === undefined) return;
      const { message } = received;
      if (message.kind === "add") this.#add(message.device);
      else {
        const device = this.#byIndex.get(message.index);
        this.#byIndex.delete(message.index);
        if (device !== undefined) this.#byName.delete(device.name);
      }
    }
  }

  /**
   * Puts a device's bytes into the reply at `at`.
   * @returns false when they are not in the cache
   */
  tryRead(channel: FuseChannel, device: Device, offset: number, length: number, at: number): boolean {
    setReady(device.touched, offset, offset + length);
    const hit = readReady(device.view, offset, offset + length, () => {
      for (let done = 0; done < length; ) {
        const count = channel.pread(device.fd, at + done, length - done, offset + done);
        // A cache file that cannot be read is a miss: the main thread fetches, or says what is wrong.
        if (count <= 0) return false;
        done += count;
      }
      return true;
    });
    Atomics.add(device.counters, hit ? COUNTER.HITS : COUNTER.MISSES, 1);
    return hit;
  }

  passOn(channel: FuseChannel, pieces: readonly number[]): void {
    this.#send({ kind: "read", uniqueLow: channel.uniqueLow, uniqueHigh: channel.uniqueHigh, pieces });
  }
}
