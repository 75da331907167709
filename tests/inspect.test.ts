/**
 * The verbs that look into images and compare them, as the built program: text for people, JSON for programs, exit
 * codes for scripts; and what they say of images of the reference tools.
 */
import { readFile, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { type TarItem, tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const SAME = { code: 0, stdout: "" };

interface Found {
  readonly path: string;
  readonly kind: string;
  readonly size: number;
  readonly offset: number;
  readonly chunks: readonly { readonly blob: string; readonly index: number }[];
}

interface Inspected {
  readonly image: { readonly layers: readonly { readonly kind: string; readonly digest: string }[] };
  readonly bootstrap: {
    readonly blobs: readonly { readonly id: string }[];
    readonly prefetch: readonly { readonly path: string }[];
  };
  readonly violations: number;
}

async function inspected(place: Workspace, ...words: string[]): Promise<Inspected> {
  return JSON.parse((await place.tool(["inspect", "--json", ...words])).stdout) as Inspected;
}

/** Files of an OCI layout's data blobs, lowest first. */
async function blobFiles(place: Workspace, directory: string, tag: string): Promise<string[]> {
  const { image } = await inspected(place, `oci:${directory}:${tag}`);
  const blobs = image.layers.filter(({ kind }) => kind === "blob");
  return blobs.map(({ digest }) => `${directory}/blobs/${digest.replace(":", "/")}`);
}

test("an image in a registry is inspected, measured and compared in every form it has", async () => {
  const place = await workspace();
  const { layers } = makeImage(451);
  await writeLayout(place.path("source"), layers.map(tarOf));
  const plain = `oci:${place.path("source")}:t`;
  const { host } = await startEmbeddedRegistry(place);
  const nydus = `${host}/app:nydus`;
  await place.tool(["convert", plain, nydus]);
  await place.tool(["convert", "--fs-version", "5", "--chunk-size", "64K", plain, `${host}/app:v5`]);
  const { image, violations } = await inspected(place, nydus);
  expect(violations).toBe(0);
  expect(image.layers.map(({ kind }) => kind)).toEqual(["blob", "blob", "blob", "bootstrap"]);
  const tree = await place.tool(["inspect", "--tree", "--json", nydus]);
  const entries = tree.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Found);
  const { path = "" } = entries.find(({ kind, size }) => kind === "file" && size > 0) ?? {};
  const [used] = (JSON.parse((await place.tool(["inspect", "--json", nydus, path])).stdout) as Found).chunks;
  const name = `${used?.blob.slice(0, 12)}:${used?.index}`;
  const { chunks } = JSON.parse((await place.tool(["inspect", "--json", "--chunk", name, nydus])).stdout);
  expect(chunks).toMatchObject([{ ...used, users: expect.any(Number) }]);
  const byByte = `${used?.blob}@${chunks[0].compressedOffset}`;
  expect((await place.tool(["inspect", "--chunk", byByte, nydus])).stdout).toMatch(/^chunk .*^in +\//ms);
  const { stdout: sizes } = await place.tool(["stat", nydus, `${host}/app:v5`]);
  expect(sizes).toMatch(/^2 images together$/m);

  const compare = (...words: string[]) => place.tool(["diff", ...words], { mayFail: true });
  expect(await compare(plain, nydus)).toMatchObject(SAME);
  expect(await compare(nydus, `${host}/app:v5`)).toMatchObject(SAME);
  await place.tool(["unpack", nydus, place.path("out")]);
  expect(await compare(nydus, `dir:${place.path("out")}`)).toMatchObject(SAME);
  await writeFile(place.path("out", "added"), "");
  const differs = await compare("--ignore", "mtime", nydus, `dir:${place.path("out")}`);
  expect(differs).toMatchObject({ code: 1, stdout: "+ /added: file\n" });
  expect(await compare(nydus, `${host}/app:none`)).toMatchObject({ code: 10, stdout: "" });
  expect(await compare(nydus)).toMatchObject({ code: 2, stdout: "" });
});

test("check names every broken rule of a bootstrap, with path and byte, and exits 11", async () => {
  const place = await workspace();
  const [boot, damaged] = [place.path("image.boot"), place.path("damaged.boot")];
  const items = [..."abcdef"].map((path): TarItem => ({ path, type: "file", data: Buffer.from(path) }));
  await writeLayout(place.path("source"), [tarOf(items)]);
  for (const [version, links, broken] of [
    ["6", 44, [[1028, "it has a superblock checksum"]]],
    ["5", 88, [[8, "its superblock claims 255 bytes"]]],
  ] as const) {
    const target = `oci:${place.path(`v${version}`)}:n`;
    await place.tool(["convert", "--fs-version", version, `oci:${place.path("source")}:t`, target]);
    await place.tool(["inspect", "--save", boot, target]);
    const bytes = await readFile(boot);
    const wanted: object[] = [];
    for (const [offset, message] of broken) {
      bytes.writeUInt32LE(255, offset);
      wanted.push({ path: "", offset, message });
    }
    for (const path of ["/b", "/e"]) {
      const node = JSON.parse((await place.tool(["inspect", "--json", boot, path])).stdout) as Found;
      bytes.writeUInt32LE(0, node.offset + links);
      wanted.push({ path, offset: node.offset, message: "it has 0 links" });
    }
    await writeFile(damaged, bytes);
    const said = await place.tool(["check", "--json", damaged], { mayFail: true });
    expect(said).toMatchObject({ code: 11, stderr: expect.stringContaining("3 problems") });
    expect(JSON.parse(said.stdout).violations).toEqual(wanted);
    const lines = (await place.tool(["check", damaged], { mayFail: true })).stdout.trim().split("\n");
    expect(lines[2]).toMatch(/^\/e: it has 0 links \(near byte \d+\)$/);
  }
});

describe.skipIf(!hasGolden)("golden images", () => {
  test.each([
    "v6-zstd",
    "v6-lz4",
    "v6-batch",
    "v6-prefetch",
    "v6-ociref",
    "v5-lz4",
    "estargz",
    "zstdchunked",
  ])("golden %s has the files and the content of the image that it was made of", async (name) => {
    const place = await workspace();
    const found = await place.tool([
      "diff",
      `oci:${golden("images", name)}:t`,
      `oci:${golden("plain/oci")}:t`,
    ]);
    expect(found).toMatchObject(SAME);
  });

  test.each(["v5-sha256", "v6-encrypt", "v6-chunk4k"])(
    "golden %s differs from its source in the one xattr that was dropped",
    async (name) => {
      const place = await workspace();
      const words = [golden("direct", name, "bootstrap"), `oci:${golden("plain/oci")}:t`];
      const { code, stdout } = await place.tool(["diff", ...words], { mayFail: true });
      expect({ code, stdout }).toEqual({
        code: 1,
        stdout: "~ /etc/user-xattr: xattrs none -> user.empty=0x\n",
      });
    },
  );

  test.each(["v6-zstd", "v6-batch", "v5-lz4"])(
    "golden %s: merge makes of its blobs the reference's bootstrap, but for the order of xattrs",
    async (name) => {
      const place = await workspace();
      const directory = golden("images", name);
      const [ours, theirs, rewritten] = [place.path("ours"), place.path("theirs"), place.path("rewritten")];
      await place.tool(["merge", "-o", ours, ...(await blobFiles(place, directory, "t"))]);
      await place.tool(["inspect", "--save", theirs, `oci:${directory}:t`]);
      // One bootstrap alone is only written again, with its xattrs in our order.
      await place.tool(["merge", "-o", rewritten, theirs]);
      expect(Buffer.compare(await readFile(ours), await readFile(rewritten))).toBe(0);
      expect(await place.tool(["diff", ours, theirs])).toMatchObject(SAME);
    },
  );

  test("golden hard: merge makes of the blobs of a conversion the image's own bootstrap", async () => {
    const place = await workspace();
    const source = `oci:${golden("hard/oci")}:t`;
    const dictionary = `oci:${place.path("nydus")}:v6`;
    for (const [tag, ...flags] of [["v6"], ["ref", "--oci-ref"], ["dict", "--chunk-dict", dictionary]]) {
      const target = `oci:${place.path("nydus")}:${tag}`;
      await place.tool(["convert", ...flags, source, target]);
      // Behind those of the layers, the manifest has the dictionary's.
      const blobs = (await blobFiles(place, place.path("nydus"), tag ?? "")).slice(0, 3);
      const { prefetch } = (await inspected(place, target)).bootstrap;
      const wanted = prefetch.flatMap(({ path }) => ["--prefetch", path]);
      await place.tool(["merge", ...wanted, "-o", place.path("merged"), ...blobs]);
      await place.tool(["inspect", "--save", place.path("own"), target]);
      expect(Buffer.compare(await readFile(place.path("merged")), await readFile(place.path("own")))).toBe(0);
    }
  });
});
