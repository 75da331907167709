/**
 * What containerd's clients and services call to unpack a Nydus image, from 1.6 to 2.4, replayed as they call it through
 * containerd's metadata (which puts "namespace/number/" in front of keys). Sources: containerd's `rootfs/apply.go` and
 * `pkg/unpack` of 1.6, `core/unpack/unpacker.go` of 2.0 and 2.4, and logs of 1.6.20 and 2.1.4 at work.
 */
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test } from "vitest";
import { umountAllUnder } from "../../tests/support/mounts.ts";
import { mounted } from "../../tests/support/snapshot-mounts.ts";
import { TestMounter } from "../../tests/support/test-mounter.ts";
import { quietLogger } from "../base/log.ts";
import { ContainerdClient } from "../containerd/client.ts";
import { Snapshots } from "../containerd/gen/snapshots_pb.ts";
import type { Mount } from "../containerd/snapshots.ts";
import { EROFS_MAGIC, SUPERBLOCK_OFFSET } from "../rafs/superblock.ts";
import { type SnapshotServer, serveSnapshots } from "./service.ts";
import { Snapshotter } from "./snapshotter.ts";

const REFERENCE = "127.0.0.1:5000/app:1";
const [DATA, BOOT] = ["d", "e"].map((letter) => `sha256:${letter.repeat(64)}`) as [string, string];
const PREFIX = "containerd.io/snapshot/";

let root: string;
let mounter: TestMounter;
let snapshotter: Snapshotter;
let server: SnapshotServer;
let client: ContainerdClient;
let calls: number;

beforeEach(async () => {
  root = await mkdtemp("/tmp/nt-seq-");
  mounter = new TestMounter();
  const findReferences = async (): Promise<readonly string[]> => [REFERENCE];
  snapshotter = await Snapshotter.open({ root: `${root}/state`, mounter, findReferences });
  server = await serveSnapshots(snapshotter, `${root}/s.sock`, { log: quietLogger });
  client = new ContainerdClient({ address: server.address, namespace: "default" });
  calls = 0;
});
afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await snapshotter[Symbol.asyncDispose]();
  await umountAllUnder(root);
  await rm(root, { recursive: true, force: true });
});

const service = () => client.service(Snapshots);
const next = (key: string): string => `default/${++calls}/${key}`;
const extract = (chainId: string): string => next(`extract-${calls}-abcd ${chainId}`);
const prepare = async (key: string, parent: string, labels: Record<string, string> = {}): Promise<Mount[]> =>
  (await service().prepare({ snapshotter: "nydus", key, parent, labels })).mounts;
const commit = async (
  name: string,
  key: string,
  labels: Record<string, string> = {},
  parent = "",
): Promise<void> => void (await service().commit({ snapshotter: "nydus", name, key, labels, parent }));
const codeOf = (work: Promise<unknown>): Promise<Code | undefined> =>
  work.then(
    () => undefined,
    (error: unknown) => (error instanceof ConnectError ? error.code : Code.Unknown),
  );

/** Unpacked by containerd's differ. */
async function apply(mounts: readonly Mount[], bootstrap = true): Promise<void> {
  await mounted(root, mounts, async (directory) => {
    if (!bootstrap) return;
    const bytes = Buffer.alloc(4096);
    bytes.writeUInt32LE(EROFS_MAGIC, SUPERBLOCK_OFFSET);
    await mkdir(`${directory}/image`);
    await writeFile(`${directory}/image/image.boot`, bytes);
  });
}

/** Whoever unpacks with these labels of a layer; those of `annotations.go` only where `cri` is set. */
const labelsOf = (chainId: string, annotation: string, cri: boolean): Record<string, string> => ({
  [`${PREFIX}${annotation}`]: "true",
  "containerd.io/snapshot.ref": chainId,
  ...(cri ? { [`${PREFIX}cri.image-ref`]: REFERENCE, [`${PREFIX}cri.layer-digest`]: DATA } : {}),
});
const dataLabels = (cri: boolean) => labelsOf(DATA, "nydus-blob", cri);
const bootLabels = (cri: boolean) => labelsOf(BOOT, "nydus-bootstrap", cri);

/** What containerd's metadata does after AlreadyExists: it looks for the target by label, then asks for it. */
async function taken(target: string, parent: string): Promise<string> {
  const filters = [`labels."containerd.io/snapshot.ref"==${target},parent=="${parent}"`];
  for await (const { info } of service().list({ snapshotter: "nydus", filters })) {
    const [found] = info;
    if (found === undefined) continue;
    const stat = await service().stat({ snapshotter: "nydus", key: found.name });
    expect(stat.info?.name).toBe(found.name);
    return found.name;
  }
  throw new Error(`Cannot find "${target}"`);
}

/** A container sees the image: an overlay on what the bootstrap, and nothing else, was mounted for. */
async function runs(parent: string): Promise<void> {
  const key = next("container");
  const mounts = await prepare(key, parent);
  expect(mounts).toMatchObject([{ type: "overlay" }]);
  expect(mounter.requests.at(-1)).toMatchObject({ reference: REFERENCE, namespace: "default" });
  await mounted(root, mounts, async (directory) => expect(await readdir(directory)).toEqual(["bootstrap"]));
  await service().remove({ snapshotter: "nydus", key });
}

test.each([
  ["with all labels (CRI, nerdctl, 1.6 to 2.4)", true],
  ["without an image's name (the transfer service of 2.0)", false],
])("a data layer is not fetched, and the bootstrap is, %s", async (_, cri) => {
  expect(await codeOf(prepare(extract(DATA), "", dataLabels(cri)))).toBe(Code.AlreadyExists);
  const below = await taken(DATA, "");
  const key = extract(BOOT);
  const mounts = await prepare(key, below, bootLabels(cri));
  // A last mount that is read-only would mean "staged": nothing to fetch.
  expect(mounts.at(-1)?.options).not.toContain("ro");
  await apply(mounts);
  const name = next(BOOT);
  await commit(name, key, bootLabels(cri));
  await runs(name);
});

test("two clients unpack the same image at once: the later one finds all there", async () => {
  for (let i = 0; i < 2; i++)
    expect(await codeOf(prepare(extract(DATA), "", dataLabels(true)))).toBe(Code.AlreadyExists);
  const below = await taken(DATA, "");
  const keys = [extract(BOOT), extract(BOOT)] as const;
  for (const key of keys) await apply(await prepare(key, below, bootLabels(true)));
  const name = next(BOOT);
  await commit(name, keys[0], bootLabels(true));
  expect(await codeOf(commit(name, keys[1], bootLabels(true)))).toBe(Code.AlreadyExists);
  await service().remove({ snapshotter: "nydus", key: keys[1] });
  await runs(name);
});

test('layers are unpacked side by side, and get their parents at the end (2.4, capability "rebase")', async () => {
  const diffId = (labels: Record<string, string>, digest: string, parent = ""): Record<string, string> => ({
    ...labels,
    [`${PREFIX}diff-id`]: digest,
    ...(parent === "" ? {} : { [`${PREFIX}parent-chain-id`]: parent }),
  });
  const key = extract(BOOT);
  const mounts = await prepare(key, "", diffId(bootLabels(true), BOOT, DATA));
  expect(await codeOf(prepare(extract(DATA), "", diffId(dataLabels(true), DATA)))).toBe(Code.AlreadyExists);
  await apply(mounts);
  const name = next(BOOT);
  await commit(name, key, bootLabels(true), await taken(DATA, ""));
  await runs(name);
});

test("a plain pull of 1.6 has no labels: the bootstrap is known by what is in it, and below it", async () => {
  const data = extract(DATA);
  await apply(await prepare(data, ""), false);
  const below = next(DATA);
  await commit(below, data);
  const key = extract(BOOT);
  await apply(await prepare(key, below));
  const name = next(BOOT);
  await commit(name, key);
  await runs(name);
});

test("what only looks like a bootstrap, above files, stays a layer", async () => {
  const first = extract(DATA);
  await mounted(root, await prepare(first, ""), (directory) => writeFile(`${directory}/file`, ""));
  const below = next(DATA);
  await commit(below, first);
  const key = extract(BOOT);
  await apply(await prepare(key, below));
  const name = next(BOOT);
  await commit(name, key);
  const mounts = await prepare(next("container"), name);
  await mounted(root, mounts, async (directory) =>
    expect((await readdir(directory)).toSorted()).toEqual(["file", "image"]),
  );
  expect(mounter.requests).toEqual([]);
});
