import { expect, test } from "vitest";
import { type TarItem, tarOf } from "../../../tests/support/tar-builder.ts";
import { EntryTree } from "../../content/entry-tree.ts";
import { streamOf } from "../../content/verified.ts";
import type { RunConfig } from "../../oci/config.ts";
import { readTar } from "../../tar/reader.ts";
import type { RegularFile } from "../../tree/tree.ts";
import { sampleElf } from "./elf.test-support.ts";
import { startFiles } from "./start-files.ts";

async function found(items: readonly TarItem[], config: RunConfig): Promise<string[]> {
  const contents = new Map<string, Uint8Array>();
  const byFile = new Map<RegularFile, Uint8Array>();
  const tree = new EntryTree(async (entry) => {
    contents.set(entry.path, Buffer.concat(await Array.fromAsync(entry.body)));
    return [];
  });
  for await (const entry of readTar(streamOf(tarOf(items)))) await tree.add(entry);
  for (const [path, bytes] of contents) {
    let node = tree.root.entries.get(path.split("/")[0] as never);
    for (const name of path.split("/").slice(1))
      node = node?.kind === "directory" ? node.entries.get(name as never) : undefined;
    if (node?.kind === "file") byFile.set(node, bytes);
  }
  const read = (file: RegularFile, offset: number, length: number): Uint8Array | undefined =>
    byFile.get(file)?.subarray(offset, offset + length);
  return startFiles(tree.root, config, read).map(({ path }) => path);
}

const file = (path: string, data: string | Uint8Array = "x", mode = 0o755): TarItem => ({
  path,
  type: "file",
  data: Buffer.from(data),
  mode,
});
const link = (path: string, target: string): TarItem => ({ path, type: "symlink", target });
const LOADER = "/lib64/ld.so.2";

test("a program brings its loader, the loader's cache and its libraries' libraries, by where the loader looks", async () => {
  const items = [
    link("bin", "usr/bin"),
    file(
      "usr/bin/app",
      sampleElf({ interpreter: LOADER, needed: ["liba.so.1", "libx.so"], runpath: "$ORIGIN/../own" }),
    ),
    link("lib64/ld.so.2", "../usr/lib/ld-2.so"),
    file("usr/lib/ld-2.so", sampleElf({})),
    file("etc/ld.so.cache"),
    file("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
    file("etc/ld.so.conf.d/here.conf", "# multiarch\n/usr/lib/here\n"),
    link("usr/lib/here/liba.so.1", "liba.so.1.2.3"),
    file("usr/lib/here/liba.so.1.2.3", sampleElf({ needed: ["libb.so"] })),
    // Of another machine: passed over, as the loader does.
    file("usr/lib/here/libb.so", sampleElf({ machine: 3 })),
    file("usr/lib/libb.so", sampleElf({ needed: ["liba.so.1"] })),
    file("usr/own/libx.so", sampleElf({})),
    file("usr/lib/libunused.so", sampleElf({})),
  ];
  expect(await found(items, { Cmd: ["app"] })).toEqual([
    "/usr/bin/app",
    "/usr/lib/ld-2.so",
    "/etc/ld.so.cache",
    "/usr/lib/here/liba.so.1.2.3",
    "/usr/own/libx.so",
    "/usr/lib/libb.so",
  ]);
});

test("a script brings what interprets it, and the command that it is given", async () => {
  const items = [
    file("entry.sh", "#!/usr/bin/env sh -e\nexec $@\n"),
    file("usr/bin/env", sampleElf({})),
    file("bin/sh", sampleElf({})),
    file("opt/tool/server", sampleElf({})),
    file("srv/settings", "x", 0o644),
  ];
  const config = {
    Entrypoint: ["/entry.sh"],
    Cmd: ["server", "--verbose", "settings"],
    Env: ["PATH=/opt/tool:/bin"],
    WorkingDir: "/srv",
  };
  expect(await found(items, config)).toEqual([
    "/usr/bin/env",
    "/bin/sh",
    "/entry.sh",
    "/opt/tool/server",
    "/srv/settings",
  ]);
});

test("a Python program brings the interpreter's first modules and what it imports, compiled where it is", async () => {
  const items = [
    link("usr/bin/python3", "python3.11"),
    file("usr/bin/python3.11", sampleElf({})),
    file("usr/lib/python3.11/os.py", "import stat\n"),
    file("usr/lib/python3.11/stat.py"),
    file("usr/lib/python3.11/__pycache__/stat.cpython-311.pyc"),
    file("usr/lib/python3.11/unused.py"),
    file("usr/lib/python3.11/late.py"),
    file(
      "usr/lib/python3.11/lib-dynload/fast.cpython-311-x86_64-linux-gnu.so",
      sampleElf({ needed: ["libf.so"] }),
    ),
    file("usr/lib/libf.so", sampleElf({})),
    file(
      "usr/lib/python3/dist-packages/pkg/__init__.py",
      "from . import part\nfrom .other import (\n  a,\n  b)\n",
    ),
    file(
      "usr/lib/python3/dist-packages/pkg/part.py",
      "try:\n    import fast\nexcept ImportError:\n    pass\n",
    ),
    file("usr/lib/python3/dist-packages/pkg/other.py", "def f():\n    import late\n"),
    file("app/main.py", "import pkg; pkg.run()\n"),
  ];
  const paths = await found(items, { Cmd: ["python3", "/app/main.py"] });
  expect(paths).toEqual([
    "/usr/bin/python3.11",
    "/usr/lib/python3.11/os.py",
    "/usr/lib/python3.11/__pycache__/stat.cpython-311.pyc",
    "/app/main.py",
    "/usr/lib/python3/dist-packages/pkg/__init__.py",
    "/usr/lib/python3/dist-packages/pkg/part.py",
    "/usr/lib/python3.11/lib-dynload/fast.cpython-311-x86_64-linux-gnu.so",
    "/usr/lib/libf.so",
    "/usr/lib/python3/dist-packages/pkg/other.py",
  ]);
});

test.each<[string, RunConfig | undefined]>([
  ["nothing", undefined],
  ["what is not there", { Cmd: ["/none"] }],
  ["what is no list", { Cmd: "sh" as never, Entrypoint: [1] as never }],
  ["a path that leads out", { Cmd: ["/../../app/.."] }],
  ["links that go round", { Cmd: ["/round"] }],
])("an image that runs %s has no start", async (_, config) => {
  expect(await found([file("app", sampleElf({})), link("round", "round")], config ?? {})).toEqual([]);
});
