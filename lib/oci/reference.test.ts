import fc from "fast-check";
import { expect, test } from "vitest";
import { formatReference, parseReference } from "./reference.ts";

const DIGEST = `sha256:${"a1".repeat(32)}`;

test.each([
  ["alpine", "docker.io/library/alpine:latest"],
  ["alpine:3.20", "docker.io/library/alpine:3.20"],
  ["team/app", "docker.io/team/app:latest"],
  ["docker.io/alpine", "docker.io/library/alpine:latest"],
  ["index.docker.io/team/app", "docker.io/team/app:latest"],
  ["localhost/app", "localhost/app:latest"],
  ["localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"],
  ["127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"],
  ["[::1]:5000/app:v1", "[::1]:5000/app:v1"],
  ["registry.example/app", "registry.example/app:latest"],
  [`registry.example/app@${DIGEST}`, `registry.example/app@${DIGEST}`],
  [`registry.example/app:1@${DIGEST}`, `registry.example/app:1@${DIGEST}`],
  ["registry.example/a_b/c__d/e-f/g.h:T_a.g-1", "registry.example/a_b/c__d/e-f/g.h:T_a.g-1"],
])("parseReference() completes %s", (text, full) => {
  expect(formatReference(parseReference(text))).toBe(full);
  expect(parseReference(full)).toEqual(parseReference(text));
});

test.each([
  ["", "its path is not a repository name"],
  ["Alpine", "its path must be lowercase"],
  ["a//b", "its path is not a repository name"],
  ["registry.example/", "its path is not a repository name"],
  ["registry.example/../etc", "its path is not a repository name"],
  ["registry.example/app:", `"" is not a tag`],
  ["registry.example/app:a/b", "its path is not a repository name"],
  [`registry.example/app:${"t".repeat(129)}`, "is not a tag"],
  ["app@sha256:123", "its digest is not sha256:<64 hex digits>"],
  [`app@${DIGEST}@${DIGEST}`, "it has more than one @"],
  ["-host.example/app", `"-host.example" is not a host name`],
  ["user:secret@registry.example/app", "its digest is not"],
  [`registry.example/${"a".repeat(250)}`, "it is longer than 255 characters"],
  ["registry.example/app\nx", "its path is not a repository name"],
])("parseReference() refuses %j", (text, state) => {
  expect(() => parseReference(text)).toThrow(state);
  expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: "usage" }));
});

test("parseReference() does not repeat a password", () => {
  expect(() => parseReference("user:secret@registry.example/app")).toThrow(
    'Cannot use image reference "***@registry.example/app"',
  );
});

test("parseReference() gives a reference or fails with usage, whatever the text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary-ascii" }), (text) => {
      try {
        const reference = parseReference(text);
        expect(parseReference(formatReference(reference))).toEqual(reference);
      } catch (error) {
        expect(error).toMatchObject({ code: "usage" });
      }
    }),
  );
});
