/**
 * `nydus-tool stream-processor`: run by containerd for a data layer that a plain pull fetched (its configuration names
 * us in `stream_processors`). containerd unpacks what comes out, and checks that all of it has the layer's digest; so
 * the blob passes through as it is. Blobs that begin as an empty tar are an empty layer that way. Not for people.
 *
 * @module
 */
import { NydusError } from "../lib/base/error.ts";
import { END_OF_ARCHIVE } from "../lib/blob/framing.ts";
import { STREAM_PROCESSOR } from "../lib/setup/containerd-settings.ts";
import type { Command } from "./command.ts";

export const streamProcessor: Command = {
  name: STREAM_PROCESSOR,
  summary: "Pass a data layer to containerd (started by containerd)",
  operands: "",
  arity: [0, 0],
  hidden: true,
  flags: {},
  examples: [],
  async run() {
    const output = Bun.stdout.writer();
    const head = Buffer.alloc(END_OF_ARCHIVE.byteLength, 1);
    let size = 0;
    for await (const bytes of Bun.stdin.stream()) {
      if (size < head.byteLength) head.set(bytes.subarray(0, head.byteLength - size), size);
      const before = size;
      size += bytes.byteLength;
      // Nothing goes out before it is known to be an empty tar.
      if (size < head.byteLength) continue;
      if (before < head.byteLength) {
        if (!head.equals(END_OF_ARCHIVE)) throw notUnpackable();
        output.write(head);
        output.write(bytes.subarray(head.byteLength - before));
      } else output.write(bytes);
      await output.flush();
    }
    if (size < head.byteLength) throw notUnpackable();
    await output.end();
  },
};

function notUnpackable(): NydusError {
  return new NydusError(
    "unsupported",
    'Cannot unpack a Nydus data layer: it was made for lazy pulls only; use "nydus-tool pull"',
  );
}
