/**
 * Damaged and hostile images, and registries that misbehave, as a user of the built program meets them: one line that
 * names the thing and its state, an exit code or an errno that says which kind of failure it is, nothing half-written
 * under a final name, and no wrong byte to a reader.
 */
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MEANINGS } from "../lib/base/error.ts";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { type Fault, type FaultRegistry, startFaultRegistry } from "./support/fault-registry.ts";
import { type ExpectedEntry, expectedTree, fileNode, type Model, node } from "./support/model.ts";
import { blobPath, type WrittenLayout, writeLayout } from "./support/oci-layout.ts";
import { type Output, run } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { type TarItem, tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace, workspace } from "./support/workspace.ts";

/** `nydus-tool: Cannot <verb> ...: <state>`, and not a word more. */
const ONE_LINE = /^nydus-tool: Cannot [^\n]+: [^\n]+\n$/;
const DRIVERS = ["erofs", "fuse"] as const;

function expectFailure(output: Output, kind: keyof typeof MEANINGS): void {
  // Progress of what went well before may stand above the last line.
  expect(output.stderr.split("\n").slice(-2).join("\n")).toMatch(ONE_LINE);
  expect(output.stderr).not.toContain("    at ");
  expect(output.code, output.stderr).toBe(MEANINGS[kind].exit);
}

/** A layout has either no file under a digest's name, or the whole of it, and no tag for what failed. */
async function expectNothingHalfWritten(layout: string): Promise<void> {
  if (!existsSync(layout)) return;
  const directory = `${layout}/blobs/sha256`;
  for (const name of existsSync(directory) ? await readdir(directory) : []) {
    if (!/^[0-9a-f]{64}$/.test(name)) continue;
    const hash = new Bun.CryptoHasher("sha256").update(await readFile(`${directory}/${name}`));
    expect(hash.digest("hex")).toBe(name);
  }
  const index = existsSync(`${layout}/index.json`) ? await readFile(`${layout}/index.json`, "utf8") : "{}";
  expect((JSON.parse(index) as { manifests?: unknown[] }).manifests ?? []).toEqual([]);
}

async function flip(file: string, at: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  await writeFile(file, bytes);
}

async function halve(file: string): Promise<void> {
  await truncate(file, Math.floor((await readFile(file)).byteLength / 2));
}

/** A small image: two files that compress, two that do not, one of them several chunks long. */
function smallModel(): Model {
  const random = new Random(5);
  return new Map([
    ["", node("dir", { implicit: true })],
    ["prose", fileNode(random.prose(90_000))],
    ["noise", fileNode(random.noise(70_000))],
    ["large", fileNode(random.noise(1_500_000))],
    ["last", fileNode(random.prose(5000))],
  ]);
}

function itemsOf(model: Model): TarItem[] {
  return [...model].filter(([path]) => path !== "").map(([path, entry]) => ({ path, ...entry }));
}

describe("convert", () => {
  async function convertSpoilt(spoil: (layout: WrittenLayout) => Promise<unknown>): Promise<Output> {
    const place = await workspace();
    const layout = await writeLayout(place.path("source"), [tarOf(itemsOf(smallModel()))]);
    await spoil(layout);
    const target = place.path("target");
    const output = await place.tool(["convert", `oci:${layout.directory}:t`, `oci:${target}:n`], {
      mayFail: true,
    });
    await expectNothingHalfWritten(target);
    return output;
  }
  const layerOf = (layout: WrittenLayout): string => layout.layers[0]?.digest ?? "";

  test("convert refuses a truncated layer", async () => {
    let digest = "";
    const output = await convertSpoilt((layout) => {
      digest = layerOf(layout);
      return halve(blobPath(layout.directory, digest));
    });
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(digest);
  });

  test("convert refuses a layer with a flipped bit", async () => {
    let digest = "";
    const output = await convertSpoilt((layout) => {
      digest = layerOf(layout);
      return flip(blobPath(layout.directory, digest), 40_000);
    });
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(digest);
  });

  test("convert refuses a manifest with a flipped bit", async () => {
    let digest = "";
    const output = await convertSpoilt((layout) => {
      digest = layout.manifest.digest;
      return flip(blobPath(layout.directory, digest), 30);
    });
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(digest);
  });

  test("convert refuses a truncated manifest", async () => {
    const output = await convertSpoilt((layout) => halve(blobPath(layout.directory, layout.manifest.digest)));
    expectFailure(output, "corrupt");
  });

  test("convert says which blob is missing", async () => {
    let digest = "";
    const output = await convertSpoilt((layout) => {
      digest = layerOf(layout);
      return run("rm", [blobPath(layout.directory, digest)]);
    });
    expectFailure(output, "not_found");
    expect(output.stderr).toContain(digest);
  });

  const file = (path: string): TarItem => ({ path, type: "file", data: Buffer.from("data") });
  const link = (path: string, target: string): TarItem => ({ path, type: "symlink", target });
  const hostile: readonly (readonly [what: string, items: readonly TarItem[]])[] = [
    ["an entry that leaves its root", [file("../../escaped")]],
    ["an entry that leaves its root further inside", [file("a/b/../../../escaped")]],
    ["a hard link to a file outside", [{ path: "stolen", type: "hardlink", target: "../../etc/shadow" }]],
    ["a hard link to nothing", [{ path: "dangling", type: "hardlink", target: "not/there" }]],
    ["an absurd size", [{ ...file("huge"), claimedSize: 2 ** 53 - 512 }]],
    ["an absurd size in base 256", [{ ...file("huge"), claimedSize: 2 ** 52, dialect: "gnu" }]],
    ["a size larger than what follows", [{ ...file("large"), claimedSize: 1_000_000 }]],
    ["a name of 256 bytes", [file(`dir/${"n".repeat(256)}`)]],
  ];
  test.each(hostile)("convert refuses %s", async (_, items) => {
    const place = await workspace();
    await writeLayout(place.path("source"), [tarOf([file("innocent"), ...items])]);
    const words = ["convert", `oci:${place.path("source")}:t`, `oci:${place.path("target")}:n`];
    const output = await place.tool(words, { mayFail: true });
    expectFailure(output, "corrupt");
    await expectNothingHalfWritten(place.path("target"));
    expect(await readdir("/tmp")).not.toContain("escaped");
  });

  test("convert writes nothing through a symbolic link of the layer", async () => {
    const place = await workspace();
    const outside = place.path("outside");
    await mkdir(outside);
    await writeLayout(place.path("source"), [tarOf([link("door", outside), file("door/burglar")])]);
    await place.tool(["convert", `oci:${place.path("source")}:t`, `oci:${place.path("target")}:n`], {
      mayFail: true,
    });
    expect(await readdir(outside)).toEqual([]);
  });

  test("convert of an archive that is not one says so", async () => {
    const place = await workspace();
    await writeFile(place.path("archive.tar"), "this is no archive");
    for (const kind of ["oci-archive", "docker-archive"]) {
      const words = ["convert", `${kind}:${place.path("archive.tar")}`, `oci:${place.path("target")}:n`];
      expectFailure(await place.tool(words, { mayFail: true }), "corrupt");
    }
  });
});

describe("mount", () => {
  let place: Workspace;
  let tree: readonly ExpectedEntry[];

  beforeAll(async () => {
    place = await openWorkspace();
    tree = expectedTree(smallModel());
    await writeExpected(place.path("tree.jsonl"), tree);
    await writeLayout(place.path("source"), [tarOf(itemsOf(smallModel()))]);
    const target = `oci:${place.path("nydus")}:n`;
    await place.tool(["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, target]);
  });
  afterAll(() => place[Symbol.asyncDispose]());

  /** A copy of the converted image to spoil: its layout, its manifest's digest, its blob's and its bootstrap's. */
  async function copyOf(
    own: Workspace,
  ): Promise<{ layout: string; manifest: string; blob: string; boot: string }> {
    const layout = own.path("nydus");
    await cp(place.path("nydus"), layout, { recursive: true });
    const index = JSON.parse(await readFile(`${layout}/index.json`, "utf8"));
    const manifest: string = index.manifests[0].digest;
    const { layers } = JSON.parse(await readFile(blobPath(layout, manifest), "utf8"));
    return { layout, manifest, blob: layers[0].digest, boot: layers[1].digest };
  }

  async function mountFails(own: Workspace, layout: string): Promise<Output> {
    await mkdir(own.path("mnt"));
    const words = [...own.mountWords(), "--detach", `oci:${layout}:n`, own.path("mnt")];
    const output = await own.tool(words, { mayFail: true });
    expect(own.mounts()).toEqual([]);
    await expect.poll(() => own.processes(), { timeout: 5000 }).toEqual([]);
    return output;
  }

  /** Reads everything; each file is right or gives the errno, and nothing else. */
  async function readsOnly(own: Workspace, mountpoint: string, errno: string): Promise<string[]> {
    const report = await checkTree(place.path("tree.jsonl"), mountpoint);
    const lines = report.split("\n").slice(0, -1);
    for (const line of lines) expect(line).toMatch(new RegExp(`sha256: .* found cannot be read: ${errno}$`));
    expect(own.mounts()).toContain(mountpoint);
    return lines;
  }

  test.each(DRIVERS)(
    "a flipped bit in a blob gives EIO through %s, and the rest is right",
    async (driver) => {
      const own = await workspace();
      const { layout, blob } = await copyOf(own);
      await flip(blobPath(layout, blob), 800_000);
      const mountpoint = await own.mount(`oci:${layout}:n`, { driver });
      expect(await readsOnly(own, mountpoint, "Input/output error")).toHaveLength(1);
      expect(await readsOnly(own, mountpoint, "Input/output error")).toHaveLength(1);
      await own.umount(mountpoint);
    },
  );

  test.each(DRIVERS)("a truncated blob gives EIO through %s", async (driver) => {
    const own = await workspace();
    const { layout, blob } = await copyOf(own);
    await halve(blobPath(layout, blob));
    const mountpoint = await own.mount(`oci:${layout}:n`, { driver });
    const lines = await readsOnly(own, mountpoint, "Input/output error");
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.length).toBeLessThan(4);
    await own.umount(mountpoint);
  });

  test.each(DRIVERS)("a missing blob gives an error through %s, not a hang", async (driver) => {
    const own = await workspace();
    const { layout, blob } = await copyOf(own);
    await run("rm", [blobPath(layout, blob)]);
    const mountpoint = await own.mount(`oci:${layout}:n`, { driver });
    expect(await readsOnly(own, mountpoint, "(Input/output error|No such file or directory)")).toHaveLength(
      4,
    );
    await own.umount(mountpoint);
  });

  test.each(["flipped", "truncated"])("mount refuses a %s bootstrap layer", async (how) => {
    const own = await workspace();
    const { layout, boot } = await copyOf(own);
    const path = blobPath(layout, boot);
    await (how === "flipped" ? flip(path, 200) : halve(path));
    const output = await mountFails(own, layout);
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(boot);
  });

  test("mount refuses a manifest with a flipped bit", async () => {
    const own = await workspace();
    const { layout, manifest } = await copyOf(own);
    await flip(blobPath(layout, manifest), 20);
    const output = await mountFails(own, layout);
    expectFailure(output, "corrupt");
    expect(output.stderr).toContain(manifest);
  });

  test("mount of a spoilt bootstrap file either refuses it or the kernel survives it", async () => {
    const own = await workspace();
    const { layout, boot } = await copyOf(own);
    await run("tar", ["-xzf", blobPath(layout, boot), "-C", own.directory]);
    const good = await readFile(own.path("image/image.boot"));
    const random = new Random(17);
    await mkdir(own.path("mnt"));
    let refused = 0;
    for (let i = 0; i < 8; i++) {
      const bad = Buffer.from(good);
      // The first kilobytes hold the superblocks, the device table and the first inodes.
      for (let n = 0; n < 3; n++) bad[1024 + random.below(3000)] = random.below(256);
      await writeFile(own.path("bad.boot"), i === 0 ? good.subarray(0, 5000) : bad);
      const words = ["--detach", "--blobs", `${layout}/blobs/sha256`, own.path("bad.boot"), own.path("mnt")];
      const output = await own.tool([...own.mountWords(), ...words], { mayFail: true });
      if (output.code === 0) {
        await run("sh", ["-c", `find ${own.path("mnt")} -type f -exec cat {} + | wc -c`], { mayFail: true });
        await own.umount(own.path("mnt"));
      } else {
        refused++;
        expectFailure(output, output.code === MEANINGS.unsupported.exit ? "unsupported" : "corrupt");
      }
    }
    expect(refused).toBeGreaterThan(0);
  }, 240_000);

  describe("from a registry that misbehaves", () => {
    let registry: FaultRegistry;
    let image: string;

    beforeAll(async () => {
      registry = await startFaultRegistry({ root: place.path("registry") });
      image = `${registry.host}/spoilt/image:n`;
      await place.tool(["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, image]);
    });
    afterAll(() => registry[Symbol.asyncDispose]());

    const once: readonly (readonly [what: string, fault: Fault])[] = [
      ["403", { kind: "status", status: 403 }],
      ["429 with Retry-After", { kind: "status", status: 429, retryAfter: 1 }],
      ["500", { kind: "status", status: 500 }],
      ["503", { kind: "status", status: 503 }],
      ["a broken connection", { kind: "reset" }],
      ["a body that breaks off", { kind: "reset", after: 1000 }],
      ["a short body", { kind: "short", missing: 10 }],
      ["a wrong bit", { kind: "flip", at: 300 }],
      ["the whole blob instead of a range", { kind: "ignore-range" }],
      ["a redirect that expires", { kind: "redirect", uses: 1 }],
    ];
    test.each(once)("reads are right although every range is first answered by %s", async (what, fault) => {
      const own = await workspace();
      registry.fault = () => undefined;
      const mountpoint = await own.mount(image);
      let spoilt = 0;
      registry.clear();
      registry.fault = ({ attempt, range }) => {
        if (range === undefined || attempt > 1) return undefined;
        spoilt++;
        return fault;
      };
      const report = await checkTree(place.path("tree.jsonl"), mountpoint);
      expect(report, what).toMatch(/, 0 differences$/);
      expect(spoilt).toBeGreaterThan(0);
      await own.umount(mountpoint);
    });

    test("reads are right although tokens end before the next read", async () => {
      const own = await workspace();
      registry.fault = () => undefined;
      registry.tokenLifetime = 60_000;
      const mountpoint = await own.mount(image);
      const before = registry.tokens;
      registry.fault = ({ range }) => {
        if (range !== undefined) registry.revokeTokens();
        return undefined;
      };
      expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(/, 0 differences$/);
      expect(registry.tokens).toBeGreaterThan(before);
      registry.tokenLifetime = undefined;
      await own.umount(mountpoint);
    });

    /** One of its own for each test: they run side by side, because most of them wait. */
    async function ownRegistry(own: Workspace): Promise<[registry: FaultRegistry, image: string]> {
      const made = await startFaultRegistry({ root: place.path("registry") });
      own.defer(() => made[Symbol.asyncDispose]());
      return [made, `${made.host}/spoilt/image:n`];
    }

    const always: readonly (readonly [what: string, fault: Fault])[] = [
      ["401", { kind: "status", status: 401 }],
      ["403", { kind: "status", status: 403 }],
      ["404", { kind: "status", status: 404 }],
      ["429", { kind: "status", status: 429 }],
      ["500", { kind: "status", status: 500 }],
      ["an empty body", { kind: "short", missing: 1e9 }],
      ["a wrong bit", { kind: "flip", at: 300 }],
    ];
    test.concurrent.each(always)(
      "a file gives an error when the registry always answers %s, and is right again later",
      async (_, fault) => {
        const own = await openWorkspace();
        try {
          const [registry, image] = await ownRegistry(own);
          const mountpoint = await own.mount(image);
          registry.fault = () => fault;
          const output = await run("cat", [`${mountpoint}/noise`], { mayFail: true });
          expect(output.stdout).toBe("");
          expect(output.stderr).toMatch(/Input\/output error|Permission denied|No such file/);
          expect(output.code).toBe(1);
          registry.fault = () => undefined;
          expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(/, 0 differences$/);
          await own.umount(mountpoint);
        } finally {
          await own[Symbol.asyncDispose]();
        }
      },
      240_000,
    );

    const hanging: readonly (readonly [what: string, fault: Fault])[] = [
      ["does not answer", { kind: "hang" }],
      ["stops in the middle of a body", { kind: "hang", after: 500 }],
    ];
    test.concurrent.each(hanging)(
      "a reader can be interrupted while the registry %s, and reads well later",
      async (_, fault) => {
        const own = await openWorkspace();
        try {
          const [registry, image] = await ownRegistry(own);
          const mountpoint = await own.mount(image);
          registry.fault = () => fault;
          const output = await run("timeout", ["--signal=INT", "1", "cat", `${mountpoint}/noise`], {
            mayFail: true,
          });
          expect(output).toEqual({ code: 124, stdout: "", stderr: "" });
          registry.fault = () => undefined;
          expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(/, 0 differences$/);
          await own.umount(mountpoint);
        } finally {
          await own[Symbol.asyncDispose]();
        }
      },
      240_000,
    );

    const refusals: readonly (readonly [what: string, fault: Fault, kind: keyof typeof MEANINGS])[] = [
      ["401", { kind: "status", status: 401 }, "denied"],
      ["403", { kind: "status", status: 403 }, "denied"],
      ["404", { kind: "status", status: 404 }, "not_found"],
      ["429", { kind: "status", status: 429 }, "unavailable"],
      ["500", { kind: "status", status: 500 }, "unavailable"],
      ["nothing", { kind: "hang" }, "unavailable"],
      ["by breaking the connection", { kind: "reset" }, "unavailable"],
      ["with a wrong bit", { kind: "flip", at: 300 }, "corrupt"],
    ];
    test.concurrent.each(refusals)(
      "mount and pull say what is wrong when blobs answer %s",
      async (_, fault, kind) => {
        const own = await openWorkspace();
        try {
          const [registry, image] = await ownRegistry(own);
          registry.fault = () => fault;
          await mkdir(own.path("mnt"));
          const words = [...own.mountWords(), "--detach", image, own.path("mnt")];
          const [mounted, copied] = await Promise.all([
            own.tool(words, { mayFail: true }),
            own.tool(["pull", image, `oci:${own.path("copy")}:n`], { mayFail: true }),
          ]);
          expectFailure(mounted, kind);
          expect(mounted.stderr).toMatch(/sha256:[0-9a-f]{64}|127\.0\.0\.1/);
          expect(own.mounts()).toEqual([]);
          expectFailure(copied, kind);
          await expectNothingHalfWritten(own.path("copy"));
        } finally {
          await own[Symbol.asyncDispose]();
        }
      },
      240_000,
    );
  });
});
