import fc from "fast-check";
import { expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { CONFIG_SIZE_LIMIT, parseConfig } from "./config.ts";
import { encodeJson } from "./json.ts";
import { LAYER_LIMIT, MANIFEST_SIZE_LIMIT, parseDocument } from "./manifest.ts";
import { MEDIA } from "./media-types.ts";

const BLOB = { mediaType: MEDIA.octets, digest: digestOf(Buffer.from("x")), size: 1 };
const MANIFEST = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config: BLOB, layers: [BLOB] };
const INDEX = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [BLOB] };
const parse = (value: object, type = "") => parseDocument(encodeJson(value), type, "it");

test.each([
  ["an OCI manifest", MANIFEST, "", "manifest"],
  ["a Docker manifest", { ...MANIFEST, mediaType: MEDIA.dockerManifest }, MEDIA.dockerManifest, "manifest"],
  ["a manifest without a type", { ...MANIFEST, mediaType: undefined }, "", "manifest"],
  ["an index", INDEX, MEDIA.ociIndex, "index"],
  ["an index without a type", { ...INDEX, mediaType: undefined }, "text/plain", "index"],
  ["a Docker list", { ...INDEX, mediaType: MEDIA.dockerIndex }, MEDIA.dockerIndex, "index"],
])("parseDocument() reads %s", (_what, value, type, kind) => {
  expect(parse(value, type).kind).toBe(kind);
});

test("parseDocument() treats index entries without a type as manifests", () => {
  const document = parse({ ...INDEX, manifests: [{ ...BLOB, mediaType: "" }] });
  if (document.kind !== "index") throw new Error("not an index");
  expect(document.index.manifests[0]?.mediaType).toBe(MEDIA.ociManifest);
});

test.each([
  ["is no JSON", Buffer.from("{"), "it is not JSON"],
  ["is no object", Buffer.from("[]"), "it is not a JSON object"],
  ["is not UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "it is not JSON"],
  ["has no version", encodeJson({ ...MANIFEST, schemaVersion: undefined }), "its schemaVersion is not 2"],
  ["is both", encodeJson({ ...MANIFEST, manifests: [] }), "it is a manifest and an index at once"],
  [
    "says another type",
    encodeJson({ ...MANIFEST, mediaType: MEDIA.ociIndex }),
    "does not fit its media type",
  ],
  ["has no layers", encodeJson({ ...MANIFEST, layers: undefined }), "it has no list of layers"],
  ["has no config", encodeJson({ ...MANIFEST, config: undefined }), "not an object"],
  [
    "has a bad digest",
    encodeJson({ ...MANIFEST, config: { ...BLOB, digest: "sha256:0" } }),
    "sha256:<64 hex",
  ],
  [
    "has a negative size",
    encodeJson({ ...MANIFEST, layers: [{ ...BLOB, size: -1 }] }),
    "not a count of bytes",
  ],
  [
    "has a huge size",
    encodeJson({ ...MANIFEST, layers: [{ ...BLOB, size: 2 ** 60 }] }),
    "not a count of bytes",
  ],
  [
    "has too many layers",
    encodeJson({ ...MANIFEST, layers: Array(LAYER_LIMIT + 1).fill(BLOB) }),
    "1025 layers",
  ],
  ["is too large", Buffer.alloc(MANIFEST_SIZE_LIMIT + 1, 0x20), "it is larger than"],
])("parseDocument() fails with corrupt when the document %s", (_what, bytes, state) => {
  expect(() => parseDocument(bytes, "", "it")).toThrow(state);
  expect(() => parseDocument(bytes, "", "it")).toThrow(expect.objectContaining({ code: "corrupt" }));
});

test("parseDocument() fails when the document was announced as something else", () => {
  expect(() => parse(MANIFEST, MEDIA.dockerManifest)).toThrow("was announced as");
});

test("parseDocument() names Docker's schema 1", () => {
  expect(() => parse({ schemaVersion: 1 })).toThrow(expect.objectContaining({ code: "unsupported" }));
});

test("parseDocument() gives a document or fails with a meaning, whatever the JSON", () => {
  const part = fc.constantFrom("schemaVersion", "mediaType", "config", "layers", "manifests", "annotations");
  const value = fc.oneof(fc.jsonValue(), fc.constant(2), fc.constant(BLOB), fc.constant([BLOB]));
  fc.assert(
    fc.property(fc.dictionary(part, value), (json) => {
      try {
        parse(json);
      } catch (error) {
        expect(error).toMatchObject({ name: "NydusError" });
      }
    }),
  );
});

const CONFIG = {
  created: "2024-01-01T00:00:00Z",
  architecture: "amd64",
  os: "linux",
  config: { Cmd: ["/bin/sh"], Labels: { a: "b" } },
  rootfs: { type: "layers", diff_ids: [BLOB.digest] },
  history: [{ created_by: "x" }],
};

test("parseConfig() keeps fields that it does not know", () => {
  expect(parseConfig(encodeJson(CONFIG), "it")).toEqual(CONFIG);
});

test("parseConfig() takes null for an empty list of layers", () => {
  const config = parseConfig(encodeJson({ ...CONFIG, rootfs: { type: "layers", diff_ids: null } }), "it");
  expect(config.rootfs.diff_ids).toEqual([]);
});

test.each([
  ["no architecture", { ...CONFIG, architecture: undefined }, "it names no architecture and os"],
  ["no rootfs", { ...CONFIG, rootfs: undefined }, "it has no list of diff ids"],
  ["a bad diff id", { ...CONFIG, rootfs: { diff_ids: ["x"] } }, "a diff id is not"],
  ["a bad history", { ...CONFIG, history: "x" }, "its history is not a list"],
])("parseConfig() fails with corrupt for %s", (_what, config, state) => {
  expect(() => parseConfig(encodeJson(config), "it")).toThrow(state);
});

test("parseConfig() refuses a config past the limit", () => {
  expect(() => parseConfig(Buffer.alloc(CONFIG_SIZE_LIMIT + 1, 0x20), "it")).toThrow("it is larger than");
});
