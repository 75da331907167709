/**
 * Mounts of an image of 100,000 files: RAFS v5, for which the kernel gets an equivalent EROFS bootstrap that is written at
 * the first mount on a node, beside v6.
 *
 * @module
 */
import { join } from "node:path";
import { writeLayout } from "../tests/support/oci-layout.ts";
import { type TarItem, tarOf } from "../tests/support/tar-builder.ts";
import { dropCaches, type Mounted, mountImage, type Place, seconds, shell, tool } from "./bench-place.ts";

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
  const layout = join(place.directory, "many");
  await writeLayout(layout, [tarOf(items())]);
  for (const version of ["6", "5"]) {
    const image = `${place.proxy.host}/many:v${version}`;
    await tool(["convert", "--fs-version", version, `oci:${layout}:t`, image]);
    for (const driver of ["erofs", "fuse"]) await mountTwice(place, { image, version, driver });
  }
  await shell(`rm -rf ${layout}`);
}

interface Subject {
  readonly image: string;
  readonly version: string;
  readonly driver: string;
}

async function mountTwice(place: Place, { image, version, driver }: Subject): Promise<void> {
  const row = `mount, ${DIRECTORIES * FILES} files, v${version}, ${driver}`;
  const cache = join(place.directory, `cache-many-${version}-${driver}`);
  for (const what of ["first on a node", "again"]) {
    await dropCaches();
    let mounted: Mounted | undefined;
    const taken = await seconds(async () => {
      mounted = await mountImage(place, image, cache, ["--driver", driver]);
    });
    place.table.add(row, `${what}, until ready`, `${taken.toFixed(2)} s`);
    const cwd = mounted?.directory ?? "";
    const finding = await seconds(() => shell("find . -type f -printf %s >/dev/null", { cwd }));
    place.table.add(row, `${what}, find`, `${finding.toFixed(2)} s`);
    await mounted?.umount();
  }
  await shell(`rm -rf ${cache}`);
}
