import { expect, test } from "vitest";
import { matchesImage } from "./match-image.ts";

test.each([
  ["registry.example", "registry.example", "a/b", true],
  ["registry.example", "other.example", "a/b", false],
  ["registry.example:5000", "registry.example:5000", "a", true],
  ["registry.example", "registry.example:5000", "a", false],
  ["https://registry.example/v1/", "registry.example", "a", true],
  ["registry.example/team", "registry.example", "team/app", true],
  ["registry.example/team", "registry.example", "team", true],
  ["registry.example/team", "registry.example", "teams/app", false],
  ["*.registry.example", "eu.registry.example", "a", true],
  ["*.registry.example", "registry.example", "a", false],
  ["*.registry.example", "a.b.registry.example", "a", false],
  ["*.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.us-east-1.amazonaws.com", "a", true],
  ["gcr.io", "eu.gcr.io", "a", false],
  ["reg*.example", "registry.example", "a", true],
  ["reg.stry.example", "registry.example", "a", false],
  ["https://index.docker.io/v1/", "docker.io", "library/nginx", true],
  ["docker.io", "docker.io", "library/nginx", true],
  ["[::1]:5000", "[::1]:5000", "a", true],
])("matchesImage(%j) on %j/%s is %j", (pattern, registry, repository, expected) => {
  expect(matchesImage(pattern, { registry, repository })).toBe(expected);
});
