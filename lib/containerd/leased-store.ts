/**
 * containerd's content store for making an image in it: everything that is written or found there is safe from the
 * garbage collector until the store is closed, and afterwards whatever the image's name leads to.
 *
 * @module
 */
import { isCode, NydusError } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { ContainerdClient } from "./client.ts";
import { ContentStore } from "./content-store.ts";
import { type Lease, openLease } from "./leases.ts";

export class LeasedContentStore extends ContentStore {
  readonly #lease: Lease;

  private constructor(lease: Lease) {
    super(lease.client);
    this.#lease = lease;
  }

  /** Closing the store closes the client too. */
  static async open(
    client: ContainerdClient,
    options: { signal?: AbortSignal } = {},
  ): Promise<LeasedContentStore> {
    return new LeasedContentStore(await openLease(client, options));
  }

  /** What is there already could go in the next moment: writing it once more adds it to the lease. */
  override async has(descriptor: Descriptor, options: { signal?: AbortSignal } = {}): Promise<boolean> {
    if (!(await super.has(descriptor, options))) return false;
    try {
      return (await this.write(descriptor, () => Promise.reject(vanished(descriptor)), options)) === "exists";
    } catch (error) {
      if (isCode(error, "not_found")) return false;
      throw error;
    }
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await this.#lease[Symbol.asyncDispose]();
    await super[Symbol.asyncDispose]();
  }
}

function vanished({ digest }: Descriptor): NydusError {
  return new NydusError("not_found", `Cannot keep blob "${digest}": it has just been removed`);
}
