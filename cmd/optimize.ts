/**
 * `nydus-tool optimize`: an image whose start needs one blob, read in one stream.
 *
 * @module
 */
import { resolve } from "node:path";
import { NydusError } from "../lib/base/error.ts";
import type { Trace } from "../lib/blob/trace.ts";
import { type OptimizeReport, optimize as optimizeBetween } from "../lib/convert/optimize.ts";
import { listOf } from "../lib/image/list-of.ts";
import { readTrace } from "../lib/mount/traces.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { IMAGE_FLAGS, imageLocation } from "./image-flags.ts";
import { formatBytes } from "./progress.ts";

export const optimize: Command = {
  name: "optimize",
  summary: "Lay together what a start of an image reads",
  operands: "IMAGE TARGET",
  arity: [2, 2],
  flags: {
    trace: {
      type: "string",
      value: "FILE",
      help: "what a start reads, as mount --record wrote it (the list beside the image)",
    },
    "work-dir": { type: "string", value: "DIR", help: "where the blob lies until it is sent (TMPDIR)" },
    ...IMAGE_FLAGS,
    json: { type: "boolean", help: "say what was written as JSON" },
  },
  examples: [
    [
      "nydus-tool mount --record app.trace registry.example/app:nydus /mnt/app",
      "run the program there, then unmount",
    ],
    [
      "nydus-tool optimize --trace app.trace registry.example/app:nydus registry.example/app:hot",
      "other data stays in the blobs where it was",
    ],
  ],
  async run(args, context) {
    const workDirectory = args.string("work-dir");
    const report = await optimizeBetween({
      ...imageLocation(args, 0, context),
      target: args.operand(1),
      trace: await traceOf(args, context),
      progress: context.progress(),
      ...(workDirectory === undefined ? {} : { workDirectory }),
    });
    if (args.boolean("json")) context.print(JSON.stringify(report, undefined, 2));
    else for (const line of summary(report, args.operand(1))) context.print(line);
  },
};

async function traceOf(args: Arguments, context: Context): Promise<Trace> {
  const file = args.string("trace");
  if (file !== undefined) return readTrace(resolve(file));
  const { blobs: _, backend: __, ...image } = imageLocation(args, 0, context);
  const list = await listOf(image);
  if (list !== undefined) return list;
  throw new NydusError(
    "usage",
    `Cannot optimize "${args.operand(0)}": no list is kept beside it; nydus-tool mount --record makes one for --trace FILE`,
  );
}

function summary({ hot, copied, targetDigest, seconds }: OptimizeReport, target: string): string[] {
  const sent =
    copied.blobs === 0 ? "no other blob" : `${copied.blobs} other blobs (${formatBytes(copied.bytes)})`;
  return [
    `${target} is ready (${targetDigest})`,
    `a start reads ${formatBytes(hot.size)} first, ${hot.chunks} chunks; ${sent} sent in ${seconds.toFixed(1)} s`,
  ];
}
