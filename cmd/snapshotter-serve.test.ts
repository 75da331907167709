import { expect, test } from "vitest";
import { parseConfigFile } from "./snapshotter-serve.ts";

test("parseConfigFile() takes the flags' own names", () => {
  const text = 'root = "/srv/n"\nlog-level = "debug"\nplain-http = true\n';
  expect(parseConfigFile(text, "f")).toEqual({ root: "/srv/n", "log-level": "debug", "plain-http": true });
});

test.each([
  ["an unknown key", 'rot = "/x"'],
  ["itself", 'config = "/x"'],
  ["a wrong type", "root = 5"],
  ["a word for a switch", 'insecure = "yes"'],
  ["what is not TOML", "root = ["],
])("parseConfigFile() refuses %s", (_, text) => {
  expect(() => parseConfigFile(text, "f")).toThrow(expect.objectContaining({ code: "usage" }));
});
