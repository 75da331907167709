import { expect, test } from "vitest";
import { LABEL, type Labels, type Purpose, purposeOf, withoutSecrets } from "./labels.ts";

const CHAIN = `sha256:${"c".repeat(64)}`;
const BLOB = `sha256:${"b".repeat(64)}`;
const NYDUS_BLOB = "containerd.io/snapshot/nydus-blob";
const NYDUS_BOOTSTRAP = "containerd.io/snapshot/nydus-bootstrap";
const STARGZ_TOC = "containerd.io/snapshot/stargz/toc.digest";
const layer = { [LABEL.target]: CHAIN };

test.each<readonly [what: string, labels: Labels, purpose: Partial<Purpose>]>([
  ["nothing", {}, { layer: "plain", volatile: false }],
  ["a plain layer", layer, { layer: "plain", target: CHAIN }],
  ["a data layer", { ...layer, [NYDUS_BLOB]: "true" }, { layer: "nydus-data", target: CHAIN }],
  [
    "a data layer that CRI describes",
    {
      ...layer,
      [NYDUS_BLOB]: "true",
      [LABEL.layerDigest]: BLOB,
      [LABEL.imageReference]: "host:5000/a:1",
      [LABEL.manifestDigest]: BLOB,
      [LABEL.imageLayers]: BLOB,
    },
    { layer: "nydus-data", blob: BLOB as never, reference: "host:5000/a:1" },
  ],
  [
    "a data layer whose diff id names the blob (containerd 2.4, transfer service)",
    { ...layer, [NYDUS_BLOB]: "true", [LABEL.diffId]: BLOB },
    { layer: "nydus-data", blob: BLOB as never },
  ],
  ["a plain layer with a diff id", { ...layer, [LABEL.diffId]: BLOB }, { layer: "plain", target: CHAIN }],
  [
    "a bootstrap layer",
    { ...layer, [NYDUS_BOOTSTRAP]: "true", "containerd.io/snapshot/nydus-fs-version": "6" },
    { layer: "nydus-bootstrap" },
  ],
  [
    "a layer that claims to be both",
    { ...layer, [NYDUS_BOOTSTRAP]: "true", [NYDUS_BLOB]: "true" },
    { layer: "nydus-bootstrap" },
  ],
  [
    "a layer with a table of contents",
    { ...layer, [STARGZ_TOC]: BLOB, [LABEL.manifestDigest]: CHAIN },
    { layer: "plain", hasToc: true, manifest: CHAIN as never },
  ],
  ["a layer that our own pull announces", { ...layer, [LABEL.toc]: BLOB }, { hasToc: true }],
  ["a table of contents whose digest is none", { ...layer, [STARGZ_TOC]: "x" }, { hasToc: false }],
  ["a container on a layer with a table of contents", { [STARGZ_TOC]: BLOB }, { hasToc: false }],
  ["a container on an image with Nydus labels", { [NYDUS_BOOTSTRAP]: "true" }, { layer: "plain" }],
  ["an index of a converted layer", { ...layer, [`${NYDUS_BLOB}-ids`]: "[]" }, { layer: "plain" }],
  ["BuildKit's reference", { ...layer, [LABEL.stargzReference]: "host/b:1" }, { reference: "host/b:1" }],
  ["an empty reference", { ...layer, [LABEL.imageReference]: "" }, { layer: "plain", target: CHAIN }],
  [
    "a layer digest that is none",
    { ...layer, [LABEL.layerDigest]: "latest" },
    { layer: "plain", target: CHAIN },
  ],
  [
    "credentials",
    { ...layer, [LABEL.username]: "u", [LABEL.secret]: "p" },
    { credentials: { username: "u", password: "p" } },
  ],
  ["half of the credentials", { ...layer, [LABEL.username]: "u" }, { layer: "plain", target: CHAIN }],
  ["a volatile container", { [LABEL.volatile]: "" }, { volatile: true }],
  ["a layer that wants to be volatile", { ...layer, [LABEL.volatile]: "" }, { volatile: false }],
  [
    "a container in a user namespace",
    { [LABEL.uidMapping]: "0:1000:100", [LABEL.gidMapping]: "0:2000:100,100:1:2" },
    { uidMapping: "0:1000:100", gidMapping: "0:2000:100,100:1:2" },
  ],
])("purposeOf() understands %s", (_, labels, purpose) => {
  expect(purposeOf(labels)).toMatchObject(purpose);
  for (const key of ["reference", "blob", "credentials", "uidMapping", "target"] as const)
    if (!(key in purpose) && labels[LABEL.target] === undefined)
      expect(purposeOf(labels)[key]).toBeUndefined();
});

test("purposeOf() refuses a mapping that would add mount options", () => {
  expect(() => purposeOf({ [LABEL.uidMapping]: "0:0:1,lowerdir=/" })).toThrow(
    expect.objectContaining({ code: "usage" }),
  );
});

test("withoutSecrets() keeps everything but credentials", () => {
  const labels = { a: "b", [LABEL.username]: "u", [LABEL.secret]: "p" };
  expect(withoutSecrets(labels)).toEqual({ a: "b" });
});
