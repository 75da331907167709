/**
 * `nydus-tool stat`: where the bytes of images go.
 *
 * @module
 */
import { NydusImage } from "../lib/image/nydus-image.ts";
import { type BlobStat, type ImageStat, statImages, type TogetherStat } from "../lib/inspect/stat.ts";
import type { Command } from "./command.ts";
import { DATA_FLAGS, oneLocationOfSeveral } from "./image-flags.ts";
import { formatBytes } from "./progress.ts";

export const stat: Command = {
  name: "stat",
  summary: "Show sizes, deduplication and compression of images, by layer and by kind",
  operands: "IMAGE|BOOTSTRAP...",
  arity: [1, Number.POSITIVE_INFINITY],
  flags: {
    ...DATA_FLAGS,
    json: { type: "boolean", help: "print one JSON object instead of lines" },
  },
  examples: [
    ["nydus-tool stat registry.example/app:nydus", "one image; its data is not fetched"],
    ["nydus-tool stat registry.example/app:1-nydus registry.example/app:2-nydus", "also what they share"],
    ["nydus-tool stat --json image.boot | jq .images[0].dedup", "for programs"],
  ],
  async run(args, context) {
    await using opened = new AsyncDisposableStack();
    const images: NydusImage[] = [];
    for (const index of args.operands.keys())
      images.push(opened.use(await NydusImage.open(oneLocationOfSeveral(args, index, context))));
    const report = await statImages(images, context.signal);
    if (args.boolean("json")) return context.print(JSON.stringify(report, undefined, 2));
    for (const image of report.images) for (const line of imageLines(image)) context.print(line);
    if (report.together !== undefined)
      for (const line of togetherLines(report.together, images.length)) context.print(line);
  },
};

function row(label: string, text: string): string {
  return `  ${label.padEnd(12)}${text}`;
}

function times(value: number): string {
  return `${value.toFixed(2)} times less`;
}

function imageLines(image: ImageStat): string[] {
  const { name, referenced, distinct, dedup, compression, bootstrapSize, stored, kinds, blobs } = image;
  return [
    name,
    row("files", `${formatBytes(referenced.bytes)} in ${referenced.count} chunks`),
    row("dedup", `${formatBytes(distinct.bytes)} in ${distinct.count} different chunks, ${times(dedup)}`),
    row("compression", `${formatBytes(distinct.stored)} stored, ${times(compression)}`),
    row("bootstrap", formatBytes(bootstrapSize)),
    row("in all", `${formatBytes(stored)} stored`),
    ...blobs.map((blob) => row(labelOf(blob), blobText(blob))),
    ...Object.entries(kinds).map(([kind, { names, inodes, bytes }]) => {
      const links = names === inodes ? "" : `, ${inodes} inodes`;
      const data = kind === "file" ? `, ${formatBytes(bytes)}` : "";
      return row(kind, `${names} ${names === 1 ? "name" : "names"}${links}${data}`);
    }),
  ];
}

function labelOf({ layer }: BlobStat): string {
  return layer === undefined ? "blob" : `layer ${layer}`;
}

function blobText({ id, size, chunks, used, fileBytes }: BlobStat): string {
  const data = `${used.count} of ${chunks} chunks used, ${formatBytes(fileBytes)} of files`;
  return `${id.slice(0, 12)} ${formatBytes(size)}${chunks === 0 ? ", no data" : `, ${data}`}`;
}

function togetherLines({ alone, stored, contents, repeated }: TogetherStat, count: number): string[] {
  return [
    `${count} images together`,
    row("in all", `${formatBytes(stored)} stored, ${formatBytes(alone)} if nothing were shared`),
    row("contents", `${formatBytes(contents.bytes)} in ${contents.count} different chunks`),
    row("repeated", `${repeated.count} chunks in other blobs again, ${formatBytes(repeated.stored)} stored`),
  ];
}
