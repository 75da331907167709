/**
 * Images whose data is in files that somebody else made and keeps (external blobs), by the built program.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type ExternalOptions, externalSample } from "../lib/rafs/external.test-support.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { Random } from "./support/random.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "erofs-loop", "fuse"] as const;

const random = new Random(31);
const FILES: ReadonlyMap<string, Uint8Array> = new Map(
  [0, 1, 513, 4096, 300_000, 2_000_000].map((size) => [
    `model-${size}`,
    Uint8Array.from({ length: size }, () => random.below(256)),
  ]),
);

interface Written {
  readonly bootstrap: string;
  readonly flags: readonly string[];
  /** Path of the external file. */
  readonly file: string;
}

async function writeImage(place: Workspace, options: ExternalOptions = {}): Promise<Written> {
  const { bootstrap, data, id } = await externalSample(FILES, options);
  await mkdir(place.path("models"));
  await writeFile(place.path("models", id), data);
  await writeFile(place.path("image.boot"), bootstrap);
  return {
    bootstrap: place.path("image.boot"),
    flags: ["--blobs", place.path("models")],
    file: place.path("models", id),
  };
}

async function expectFiles(directory: string): Promise<void> {
  for (const [name, content] of FILES)
    expect(Buffer.compare(await readFile(join(directory, name)), content)).toBe(0);
}

test("an image of an external file shows its files on each driver, and unpacks", async () => {
  const place = await workspace();
  const { bootstrap, flags } = await writeImage(place);
  await place.tool(["check", "--data", ...flags, bootstrap]);
  await place.tool(["unpack", ...flags, bootstrap, place.path("out")]);
  await expectFiles(place.path("out"));
  await place.mountEach(DRIVERS, bootstrap, expectFiles, flags);
});

test("an external file comes from a registry too", async () => {
  const place = await workspace();
  const { bootstrap, data } = await externalSample(FILES);
  await writeFile(place.path("image.boot"), bootstrap);
  await writeLayout(place.path("model"), [data], { compression: ["none"] });
  const { host } = await startEmbeddedRegistry(place);
  await place.tool(["pull", `oci:${place.path("model")}:t`, `${host}/models/one:t`]);
  const mountpoint = await place.mount(place.path("image.boot"), {
    flags: ["--backend", `${host}/models/one:t`],
  });
  await expectFiles(mountpoint);
});

test("an external file that was changed is refused", async () => {
  const place = await workspace();
  const { bootstrap, flags, file } = await writeImage(place);
  const data = await readFile(file);
  data[data.byteLength - 1000] = (data[data.byteLength - 1000] ?? 0) ^ 1;
  await writeFile(file, data);
  const { code, stderr } = await place.tool(["unpack", ...flags, bootstrap, place.path("out")], {
    mayFail: true,
  });
  expect(code).toBe(11);
  expect(stderr).toContain("does not match its checksum");
});

test("an external file that nothing vouches for is read only with --allow-unverified", async () => {
  const place = await workspace();
  const { bootstrap, flags } = await writeImage(place, { id: "b".repeat(64), checksums: false });
  const mountpoint = place.path("mnt");
  await mkdir(mountpoint);
  const words = ["--detach", ...flags, bootstrap, mountpoint];
  const { code, stderr } = await place.tool([...place.mountWords(), ...words], { mayFail: true });
  expect(code).toBe(11);
  expect(stderr).toMatch(/^nydus-tool: Cannot verify external blob "b{64}": .*--allow-unverified/m);
  await place.tool([...place.mountWords(), "--allow-unverified", ...words]);
  await expectFiles(mountpoint);
});
