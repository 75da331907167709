/**
 * `nydus-tool trace push` and `trace pull`: lists of what a start reads travel beside their image.
 *
 * @module
 */
import { resolve } from "node:path";
import { NydusError } from "../lib/base/error.ts";
import { encodeTrace } from "../lib/blob/trace.ts";
import { writeFileAtomically } from "../lib/content/files.ts";
import { streamOf } from "../lib/content/verified.ts";
import { keepListOf, type ListRequest, listOf } from "../lib/image/list-of.ts";
import { readTrace } from "../lib/mount/traces.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { IMAGE_FLAGS, imageLocation } from "./image-flags.ts";

export const tracePush: Command = {
  name: "trace push",
  summary: "Keep what a start reads beside its image, for every node",
  operands: "IMAGE FILE",
  arity: [2, 2],
  flags: { ...IMAGE_FLAGS, json: { type: "boolean", help: "say what was done as JSON" } },
  examples: [
    ["nydus-tool trace push registry.example/app:nydus app.trace", "as mount --record wrote it"],
    ["nydus-tool snapshotter serve --push-list", "a node that does it by itself after each first run"],
  ],
  async run(args, context) {
    const image = args.operand(0);
    const trace = readTrace(resolve(args.operand(1)));
    const pushed = await keepListOf(listRequest(args, context), trace, new Date());
    if (args.boolean("json")) context.print(JSON.stringify({ image, pushed, ranges: trace.length }));
    else
      context.print(
        pushed ? `${image} has a list of ${trace.length} ranges` : `${image} has this list already`,
      );
  },
};

export const tracePull: Command = {
  name: "trace pull",
  summary: "Get the list that is kept beside an image",
  operands: "IMAGE FILE",
  arity: [2, 2],
  flags: { ...IMAGE_FLAGS, json: { type: "boolean", help: "say what was written as JSON" } },
  examples: [
    ["nydus-tool trace pull registry.example/app:nydus app.trace", "mounts take it by themselves"],
    ["nydus-tool optimize registry.example/app:nydus registry.example/app:hot", "takes it, too"],
  ],
  async run(args, context) {
    const [image, file] = [args.operand(0), args.operand(1)];
    const trace = await listOf(listRequest(args, context));
    if (trace === undefined)
      throw new NydusError(
        "not_found",
        `Cannot get the list of "${image}": it has none; nydus-tool trace push gives it one`,
      );
    await writeFileAtomically(file, streamOf(encodeTrace(trace)), { signal: context.signal });
    if (args.boolean("json")) context.print(JSON.stringify({ image, file, ranges: trace.length }));
    else context.print(`${trace.length} ranges in ${file}`);
  },
};

function listRequest(args: Arguments, context: Context): ListRequest {
  const { blobs: _, backend: __, ...request } = imageLocation(args, 0, context);
  return request;
}
