/**
 * `nydus-tool unpack`: all of an image on disk, as a directory or a tar.
 *
 * @module
 */
import { NydusError, toNydusError } from "../lib/base/error.ts";
import { writeFileAtomically } from "../lib/content/files.ts";
import { NydusImage } from "../lib/image/nydus-image.ts";
import { unpackDirectory } from "../lib/unpack/directory.ts";
import { type ReadChunks, treeToTar } from "../lib/unpack/tar.ts";
import type { Command } from "./command.ts";
import { DATA_FLAGS, imageLocation } from "./image-flags.ts";
import { formatBytes } from "./progress.ts";

const STDOUT = "-";

export const unpack: Command = {
  name: "unpack",
  summary: "Unpack an image to a directory or a tar",
  operands: "IMAGE|BOOTSTRAP DIR|FILE|-",
  arity: [2, 2],
  flags: {
    tar: { type: "boolean", help: "write a tar to FILE, or to standard output (-)" },
    ...DATA_FLAGS,
    json: { type: "boolean", help: "say what was unpacked as JSON" },
  },
  examples: [
    [
      "nydus-tool unpack registry.example/app:nydus ./rootfs",
      "as root: owners, modes, times, xattrs, devices",
    ],
    ["nydus-tool unpack --tar oci:./app app.tar", "needs no rights; every chunk is verified"],
    [
      "nydus-tool unpack --tar --blobs ./blobs ./image.boot - | tar t",
      "a bootstrap and a directory of blobs",
    ],
  ],
  async run(args, context) {
    const [image, target] = [args.operand(0), args.operand(1)];
    const toTar = args.boolean("tar");
    if (!toTar && process.getuid?.() !== 0)
      throw new NydusError(
        "denied",
        `Cannot unpack "${image}" to "${target}": owners and devices need root; --tar does not`,
      );
    const { signal } = context;
    await using opened = await NydusImage.open(imageLocation(args, 0, context));
    const counts = { entries: 0, bytes: 0 };
    const task = context.progress().task("unpack");
    const onProgress = (entries: number, bytes: number): void => {
      counts.entries += entries;
      counts.bytes += bytes;
      task.advance(bytes);
    };
    const readChunks: ReadChunks = (wanted) => opened.chunks(wanted, { signal });
    if (toTar) await writeTo(target, treeToTar(opened.root, readChunks, { onProgress }), signal);
    else await unpackDirectory(opened.root, target, readChunks, { onProgress, signal });
    task.finish(`${counts.entries} entries`);
    if (toTar && target === STDOUT) return;
    if (args.boolean("json")) context.print(JSON.stringify({ image, target, ...counts }));
    else context.print(`${counts.entries} entries, ${formatBytes(counts.bytes)} of file data, in ${target}`);
  },
};

async function writeTo(target: string, tar: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
  if (target !== STDOUT) return await writeFileAtomically(target, tar, { signal });
  for await (const piece of tar) {
    await new Promise<void>((resolve, reject) => {
      process.stdout.write(piece, (error) =>
        error ? reject(toNydusError(error, "write to standard output")) : resolve(),
      );
    });
  }
}
