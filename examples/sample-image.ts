/**
 * A small Nydus image in a temporary directory, for the other examples. Where they say `image.location`, any image would
 * do: "registry.example/app:nydus", "oci:./layout:tag", the path of a bootstrap file.
 *
 * @module
 */
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { convert } from "../mod.ts";

export interface SampleImage extends AsyncDisposable {
  /** The Nydus image. */
  readonly location: string;
  /** What it was made of, as a location: "dir:PATH". */
  readonly source: string;
  /** For more files; goes away with the image. */
  readonly directory: string;
}

export async function sampleImage(): Promise<SampleImage> {
  const directory = await mkdtemp(join(tmpdir(), "nydus-example-"));
  const root = join(directory, "root");
  await mkdir(join(root, "bin"), { recursive: true });
  await writeFile(join(root, "bin/hello"), "#!/bin/sh\necho hello\n", { mode: 0o755 });
  await writeFile(
    join(root, "numbers"),
    Uint8Array.from({ length: 3_000_000 }, (_, i) => i % 251),
  );
  await symlink("bin/hello", join(root, "hello"));
  const [source, location] = [`dir:${root}`, `oci:${join(directory, "nydus")}:latest`];
  await convert({ source, target: location, compressor: "zstd" });
  return {
    location,
    source,
    directory,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
