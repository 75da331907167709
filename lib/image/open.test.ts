import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openStore } from "./open.ts";

let root = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "nydus-open-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const DIGEST = `sha256:${"0".repeat(64)}`;

/** What a location stands for: the store's name and the reference in it, with DIR for the temporary directory. */
async function opened(location: string, create = true): Promise<string> {
  const { store, reference } = await openStore(location.replace("DIR", root), { create });
  await using _store = store;
  return `${store.name} ${reference}`.replace(root, "DIR");
}

test.each([
  ["alpine", "docker://docker.io/library/alpine latest"],
  ["127.0.0.1:5000/a/b:v1", "docker://127.0.0.1:5000/a/b v1"],
  ["localhost:5000/a", "docker://localhost:5000/a latest"],
  [`example.com/a@${DIGEST}`, `docker://example.com/a ${DIGEST}`],
  [`example.com/a:v1@${DIGEST}`, `docker://example.com/a ${DIGEST}`],
  ["docker://example.com/a:v1", "docker://example.com/a v1"],
  ["docker:dind", "docker://docker.io/library/docker dind"],
  ["constructor:1", "docker://docker.io/library/constructor 1"],
  ["dir:latest", "docker://docker.io/library/dir latest"],
  ["oci:DIR/new", "oci:DIR/new undefined"],
  ["oci:DIR/new:v1", "oci:DIR/new v1"],
  ["oci:DIR/new:docker.io/library/a:v1", "oci:DIR/new docker.io/library/a:v1"],
  ["oci-archive:DIR/a.tar:v1", "oci-archive:DIR/a.tar v1"],
])("openStore(%s) opens %s", async (location, expected) => {
  expect(await opened(location)).toBe(expected);
});

test.each([
  ["oci:", "usage", 'Cannot open "oci:": it names no place'],
  ["docker://", "usage", 'Cannot open "docker://": it names no place'],
  ["dir:/some/where", "usage", 'Cannot open "dir:/some/where": a plain directory is no image'],
  ["A/B", "usage", 'Cannot use image reference "A/B": its path must be lowercase'],
  ["", "usage", 'Cannot use image reference "": its path is not a repository name'],
])("openStore(%s) fails with %s", async (location, code, message) => {
  await expect(openStore(location)).rejects.toMatchObject({ code, message });
});

test.each(["oci:DIR/none", "oci-archive:DIR/none.tar", "docker-archive:DIR/none.tar"])(
  "openStore(%s) fails with not_found and makes nothing",
  async (location) => {
    await expect(opened(location, false)).rejects.toMatchObject({ code: "not_found" });
  },
);

test("openStore() does not write docker archives", async () => {
  await expect(opened("docker-archive:DIR/a.tar")).rejects.toMatchObject({ code: "unsupported" });
});
