import { expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { LayerTreeBuilder } from "./layer-tree.ts";
import { selectPaths } from "./select-paths.ts";
import { IMPLICIT_DIRECTORY } from "./tree.ts";

const FILES = [
  "usr/bin/bash",
  "usr/bin/[",
  "usr/bin/python3.11",
  "usr/lib/libc.so.6",
  "usr/lib/python3/a.py",
  "usr/lib/python3/deep/b.py",
  "usr/lib/python3/deep/b.pyc",
  "etc/a*b",
  "etc/axb",
];

function tree() {
  const builder = new LayerTreeBuilder();
  for (const file of FILES) builder.addFile(byteStringOf(file), IMPLICIT_DIRECTORY, 0, []);
  builder.addSymlink(byteStringOf("bin"), IMPLICIT_DIRECTORY, byteStringOf("usr/bin"));
  builder.addSymlink(byteStringOf("usr/bin/sh"), IMPLICIT_DIRECTORY, byteStringOf("/bin/bash"));
  builder.addSymlink(byteStringOf("loop"), IMPLICIT_DIRECTORY, byteStringOf("loop"));
  return builder.root;
}

const select = (...patterns: string[]) => selectPaths(tree(), patterns.map(byteStringOf));

test.each([
  ["a file", ["/usr/bin/bash"], ["/usr/bin/bash"]],
  ["a path without its first slash", ["usr/lib/"], ["/usr/lib"]],
  ["the root", ["/"], ["/"]],
  ["a file through a linked directory and a link", ["/bin/bash", "/bin/sh"], ["/usr/bin/bash"]],
  ["what lies below an earlier one, once", ["/usr/lib", "/usr/lib/libc.so.6"], ["/usr/lib"]],
  [
    "what lies above an earlier one, too",
    ["/usr/lib/libc.so.6", "/usr/lib"],
    ["/usr/lib/libc.so.6", "/usr/lib"],
  ],
  ["a name that looks like a pattern", ["/usr/bin/[", "/etc/a*b"], ["/usr/bin/[", "/etc/a*b"]],
  ["names by a pattern", ["/usr/bin/p*", "/usr/lib/*.so.?"], ["/usr/bin/python3.11", "/usr/lib/libc.so.6"]],
  ["a class of letters", ["/usr/bin/[a-c]*"], ["/usr/bin/bash"]],
  ["all but a class of letters", ["/usr/lib/[!l]*"], ["/usr/lib/python3"]],
  ["files at any depth", ["/usr/lib/**/*.py"], ["/usr/lib/python3/a.py", "/usr/lib/python3/deep/b.py"]],
  ["directories by a pattern, not what is in them", ["/usr/*"], ["/usr/bin", "/usr/lib"]],
])("selectPaths() finds %s", (_, patterns, paths) => {
  expect(select(...patterns)).toEqual({ paths, unmatched: [] });
});

test("selectPaths() says which patterns found nothing", () => {
  const patterns = ["/usr/bin/zsh", "/usr/bin/zs*", "/loop", "/usr/bin/bash/x"];
  expect(select(...patterns)).toEqual({ paths: [], unmatched: patterns });
});
