/**
 * Mounts of an image of 100,000 files: RAFS v5, for which the kernel gets an equivalent EROFS bootstrap that is written at
 * the first mount on a node, beside v6.
 *
 * @module
 */
import { join } from "node:path";
import { writeLayout } from "../tests/support/oci-layout.ts";
import { type TarItem, tarOf } from "../tests/support/tar-builder.ts";
import { dropCaches, mountImage, type Place, seconds, shell, tool } from "./bench-place.ts";

const DIRECTORIES = 200;
const FILES = 500;

function* items(): Generator<TarItem> {
  for (let d = 0; d < DIRECTORIES; d++) {
    yield { path: `d${d}/`, type: "dir", mode: 0o755 };
    for (let f = 0; f < FILES; f++)
      yield { path: `d${d}/file-${f}`, type: "file", data: Buffer.from(`${d} ${f}\n`) };
  }
}

export async function benchFiles(place: Place): Promise<void> {
  const { directory, proxy, table } = place;
  const layout = join(directory, "many");
  await writeLayout(layout, [tarOf(items())]);
  for (const version of ["6", "5"]) {
    const image = `${proxy.host}/many:v${version}`;
    await tool(["convert", "--fs-version", version, `oci:${layout}:t`, image]);
    for (const driver of ["erofs", "fuse"]) {
      const row = `mount, ${DIRECTORIES * FILES} files, v${version}, ${driver}`;
      const cache = join(directory, `cache-many-${version}-${driver}`);
      for (const what of ["first on a node", "again"]) {
        await dropCaches();
        let mounted: Awaited<ReturnType<typeof mountImage>> | undefined;
        const taken = await seconds(async () => {
          mounted = await mountImage(place, image, cache, ["--driver", driver]);
        });
        table.add(row, `${what}, until ready`, `${taken.toFixed(2)} s`);
        const cwd = mounted?.directory ?? "";
        const finding = await seconds(() => shell("find . -type f -printf %s >/dev/null", { cwd }));
        table.add(row, `${what}, find`, `${finding.toFixed(2)} s`);
        await mounted?.umount();
      }
      await shell(`rm -rf ${cache}`);
    }
  }
  await shell(`rm -rf ${layout}`);
}
