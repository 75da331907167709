import { expect, test } from "vitest";
import { parseChallenges } from "./challenge.ts";

const plain = (header: string) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

test.each([
  [
    `Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"`,
    [
      [
        "bearer",
        {
          realm: "https://auth.example/token",
          service: "registry.example",
          scope: "repository:a/b:pull,push",
        },
      ],
    ],
  ],
  [`Basic realm="Registry Realm"`, [["basic", { realm: "Registry Realm" }]]],
  [`BASIC REALM=x`, [["basic", { realm: "x" }]]],
  [`Basic realm="a \\"quoted\\" word"`, [["basic", { realm: 'a "quoted" word' }]]],
  [
    `Negotiate, Basic realm="x", Bearer realm="y" , service = "z"`,
    [
      ["negotiate", {}],
      ["basic", { realm: "x" }],
      ["bearer", { realm: "y", service: "z" }],
    ],
  ],
  ["", []],
  [`="x"`, []],
])("parseChallenges() reads %s", (header, expected) => {
  expect(plain(header)).toEqual(expected);
});
