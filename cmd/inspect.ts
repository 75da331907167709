/**
 * `nydus-tool inspect`: what is inside an image, without reading file data.
 *
 * @module
 */
import { corrupt, NydusError } from "../lib/base/error.ts";
import { writeFileAtomically } from "../lib/content/files.ts";
import { type LocatedImage, locateImage } from "../lib/image/location.ts";
import { NydusImage } from "../lib/image/nydus-image.ts";
import { findChunks, parseChunkWish } from "../lib/inspect/chunk-facts.ts";
import { imageFacts } from "../lib/inspect/image-facts.ts";
import { manifestFacts } from "../lib/inspect/manifest-facts.ts";
import { allEntryFacts, nodeFacts } from "../lib/inspect/node-facts.ts";
import { checkImage } from "../lib/rafs/image.ts";
import { dumpTree } from "../lib/tree/dump.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { DATA_FLAGS, imageLocation } from "./image-flags.ts";
import { chunkLines, imageLines, nodeLines } from "./inspect-text.ts";

export const inspect: Command = {
  name: "inspect",
  summary: "Show what is in an image: superblock, blobs, the tree, one path, one chunk",
  operands: "IMAGE|BOOTSTRAP [PATH]",
  arity: [1, 2],
  flags: {
    tree: { type: "boolean", help: "every path with its attributes, a line each" },
    chunk: {
      type: "string",
      value: "BLOB:N|BLOB@BYTE",
      help: "a chunk by its number, or by a byte of the stored blob; BLOB is a position or how its id begins",
    },
    save: { type: "string", value: "FILE", help: "write the bootstrap to FILE" },
    ...DATA_FLAGS,
    json: { type: "boolean", help: "as JSON: one object; with --tree one a line" },
  },
  examples: [
    ["nydus-tool inspect registry.example/app:nydus", "only the bootstrap is fetched"],
    ["nydus-tool inspect image.boot /usr/bin/python3", "one path: attributes and chunks"],
    ["nydus-tool inspect --tree --json image.boot | jq -r 'select(.size > 1e6).path'", "all large files"],
    ["nydus-tool inspect --chunk 3fa1:17 oci:./app", "where a chunk lies, and which files hold it"],
    ["nydus-tool inspect --save image.boot registry.example/app:nydus", "the bootstrap as a file"],
  ],
  async run(args, context) {
    const wanted = [args.operands[1], args.string("chunk"), args.boolean("tree") || undefined];
    if (wanted.filter((one) => one !== undefined).length > 1)
      throw new NydusError("usage", 'Cannot run "inspect": say one of PATH, --chunk and --tree');
    await using located = await locateImage(imageLocation(args, 0, context));
    const file = args.string("save");
    if (file !== undefined) await writeFileAtomically(file, located.bootstrap, { signal: context.signal });
    const [path, chunk, tree] = wanted;
    if (typeof path === "string") return await showPath(located, path, args, context);
    if (typeof chunk === "string") return await showChunk(located, chunk, args, context);
    if (tree !== undefined) return await showTree(located, args, context);
    await showImage(located, args, context);
  },
};

async function showImage(located: LocatedImage, args: Arguments, { print }: Context): Promise<void> {
  const { name, image, bootstrap } = located;
  const violations = (await checkImage(bootstrap)).length;
  const opened = await NydusImage.trusting(located);
  const facts = {
    name,
    ...(image === undefined ? {} : { image: manifestFacts(image) }),
    bootstrap: imageFacts(opened.bootstrap, { sound: violations === 0 }),
    violations,
  };
  if (args.boolean("json")) print(JSON.stringify(facts, undefined, 2));
  else for (const line of imageLines(facts)) print(line);
}

async function showPath(located: LocatedImage, path: string, args: Arguments, { print }: Context) {
  const facts = nodeFacts(await trusted(located), path);
  if (args.boolean("json")) print(JSON.stringify(facts, undefined, 2));
  else for (const line of nodeLines(facts)) print(line);
}

async function showChunk(located: LocatedImage, text: string, args: Arguments, context: Context) {
  const image = await trusted(located);
  const found = await findChunks(image, parseChunkWish(text, image.bootstrap.blobs), context.signal);
  if (args.boolean("json")) context.print(JSON.stringify({ chunks: found }, undefined, 2));
  else for (const line of found.flatMap(chunkLines)) context.print(line);
}

async function showTree(located: LocatedImage, args: Arguments, { print, signal }: Context) {
  const { bootstrap, root } = await trusted(located);
  if (!args.boolean("json")) {
    for (const line of dumpTree(root)) print(line);
    return;
  }
  for (const entry of allEntryFacts(bootstrap)) {
    signal.throwIfAborted();
    print(JSON.stringify(entry));
  }
}

/** Walking through a damaged bootstrap could take any time. */
async function trusted(located: LocatedImage): Promise<NydusImage> {
  const { length } = await checkImage(located.bootstrap);
  if (length === 0) return await NydusImage.trusting(located);
  const { name } = located;
  throw corrupt(`Cannot look into "${name}": its bootstrap is damaged; see nydus-tool check ${name}`);
}
