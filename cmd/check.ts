/**
 * `nydus-tool check`: everything that is wrong with an image, which is what a mount would refuse it for.
 *
 * @module
 */
import { corrupt, toNydusError } from "../lib/base/error.ts";
import { type LocatedImage, locateImage } from "../lib/image/location.ts";
import { NydusImage } from "../lib/image/nydus-image.ts";
import { checkData, type DataReport, type DataViolation } from "../lib/inspect/check-data.ts";
import type { Violation } from "../lib/rafs/check.ts";
import { checkImage, openImage } from "../lib/rafs/image.ts";
import type { Command, Context } from "./command.ts";
import { DATA_FLAGS, imageLocation } from "./image-flags.ts";
import { formatBytes } from "./progress.ts";

export const check: Command = {
  name: "check",
  summary: "Verify every structure of a bootstrap, and with --data every chunk",
  operands: "IMAGE|BOOTSTRAP",
  arity: [1, 1],
  flags: {
    data: { type: "boolean", help: "read all blobs too: their digests, and each chunk's" },
    ...DATA_FLAGS,
    json: { type: "boolean", help: "print one JSON object instead of lines" },
  },
  examples: [
    ["nydus-tool check image/image.boot", "says nothing and exits 0 when the kernel may mount it"],
    ["nydus-tool check --data registry.example/app:nydus", "all of the image; nothing is kept on disk"],
    ["nydus-tool check --json image.boot | jq '.violations[].path'", "exits 11 when there is anything wrong"],
  ],
  async run(args, context) {
    const name = args.operand(0);
    await using located = await locateImage(imageLocation(args, 0, context));
    const violations = await checkImage(located.bootstrap);
    // An image of a kind that we do not serve is not damaged: say which kind.
    if (violations.length > 0) assertSupported(located.bootstrap);
    // Data can only be found where the structure is sound.
    const wantsData = args.boolean("data") && violations.length === 0;
    const data = wantsData ? await dataOf(located, context) : undefined;
    if (args.boolean("json")) context.print(JSON.stringify({ bootstrap: name, violations, data }));
    else for (const line of lines(violations, data)) context.print(line);
    const count = violations.length + (data?.violations.length ?? 0);
    if (count === 0) return;
    throw corrupt(`Cannot trust "${name}": ${count === 1 ? "1 problem" : `${count} problems`}`);
  },
};

async function dataOf(located: LocatedImage, context: Context): Promise<DataReport> {
  const { signal } = context;
  return await checkData(await NydusImage.trusting(located), { progress: context.progress(), signal });
}

function assertSupported(bytes: Uint8Array): void {
  try {
    openImage(bytes);
  } catch (error) {
    const known = toNydusError(error, "read the bootstrap");
    if (known.code === "unsupported") throw known;
  }
}

function lines(violations: readonly Violation[], data: DataReport | undefined): string[] {
  const found = [...violations.map(structureLine), ...(data?.violations ?? []).map(dataLine)];
  if (data === undefined) return found;
  const { chunks, blobs, bytes } = data;
  return [...found, `${chunks} chunks in ${blobs} blobs read, ${formatBytes(bytes)}`];
}

function structureLine({ path, offset, message }: Violation): string {
  return `${path === "" ? "tables" : path}: ${message} (near byte ${offset})`;
}

function dataLine({ blob, offset, paths, message }: DataViolation): string {
  const users = paths.length === 0 ? "" : `, in ${paths.join(", ")}`;
  return `blob ${blob}: ${message} (at byte ${offset}${users})`;
}
