/** Stores that can only be read refuse the rest in one way. @module */

import { NydusError } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";

export abstract class ReadOnlyStore {
  abstract readonly name: string;

  async push(descriptor: Descriptor, body: ReadableStream<Uint8Array>): Promise<void> {
    await body.cancel();
    throw this.#refusal(`store "${descriptor.digest}" in`);
  }

  async tag(_descriptor: Descriptor, reference = "an image"): Promise<void> {
    throw this.#refusal(`tag "${reference}" in`);
  }

  #refusal(action: string): NydusError {
    return new NydusError("unsupported", `Cannot ${action} ${this.name}: it can only be read`);
  }
}
