import { expect, test } from "vitest";
import { parse, type TomlTable, withoutMarks, withTables } from "./toml-lines.ts";

const CRI = ["plugins", "io.containerd.grpc.v1.cri", "containerd"];
const TABLES: readonly TomlTable[] = [
  { path: ["proxy_plugins", "nydus"], keys: { type: "snapshot", address: "/run/s.sock" } },
  { path: CRI, keys: { snapshotter: "nydus", disable_snapshot_annotations: false } },
];

/** Debian's, then what administrators make of it. */
const DEBIAN = `version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd"
`;
const TUNED = `# ours
version = 2
[plugins.'io.containerd.grpc.v1.cri'.containerd]   # keep
  snapshotter = "overlayfs"  # the default
  default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
[proxy_plugins]
  [proxy_plugins.stargz]
    type = "snapshot"
    address = "/run/stargz.sock"
`;

test.each([
  ["nothing", ""],
  ["Debian's file", DEBIAN],
  ["a tuned file", TUNED],
])("withTables() changes %s as meant, and withoutMarks() takes all of it back", (_, text) => {
  const changed = withTables(text, TABLES);
  expect(parse(changed)).toMatchObject({
    proxy_plugins: { nydus: { type: "snapshot", address: "/run/s.sock" } },
    plugins: {
      "io.containerd.grpc.v1.cri": {
        containerd: { snapshotter: "nydus", disable_snapshot_annotations: false },
      },
    },
  });
  expect(withTables(changed, TABLES)).toBe(changed);
  expect(withoutMarks(changed)).toBe(text);
});

test("withTables() keeps what else a file says, to the byte", () => {
  const lines = withTables(TUNED, TABLES).split("\n");
  for (const line of TUNED.split("\n")) if (!line.includes("overlayfs")) expect(lines).toContain(line);
  expect(lines).toContain(
    '  snapshotter = "nydus" # by nydus-tool, before: snapshotter = "overlayfs"  # the default',
  );
});

test("withTables() changes its own lines again, and remembers what was first", () => {
  const once = withTables(TUNED, TABLES);
  const other = withTables(once, [{ path: CRI, keys: { snapshotter: "other" } }]);
  expect(other).toContain('snapshotter = "other" # by nydus-tool, before: snapshotter = "overlayfs"');
  expect(withoutMarks(other)).toBe(TUNED);
});

test("withTables() leaves alone what is as wanted", () => {
  const text = '[proxy_plugins.nydus]\n  type = "snapshot"\n  address = "/run/s.sock" # mine\n';
  expect(withTables(text, TABLES.slice(0, 1))).toBe(text);
});

test("withTables() adds elements to arrays of tables", () => {
  const path = ["plugins", "io.containerd.transfer.v1.local", "unpack_config"];
  const changed = withTables(DEBIAN, [
    { path, element: true, keys: { platform: "linux", snapshotter: "overlayfs" } },
    { path, element: true, keys: { platform: "linux", snapshotter: "nydus" } },
  ]);
  expect(parse(changed)).toMatchObject({
    plugins: {
      "io.containerd.transfer.v1.local": {
        unpack_config: [{ snapshotter: "overlayfs" }, { snapshotter: "nydus" }],
      },
    },
  });
  expect(withoutMarks(changed)).toBe(DEBIAN);
});

test.each([
  ["an inline table", 'proxy_plugins = { nydus = { type = "x" } }\n'],
  ["a dotted key", 'proxy_plugins.nydus.type = "x"\n'],
  ["a value over several lines", "[proxy_plugins.nydus]\ntype = [\n  1,\n]\n"],
  ["a header inside a string", 'a = """\n[proxy_plugins.nydus]\n"""\n[proxy_plugins.nydus]\ntype = "x"\n'],
  ["no table", 'proxy_plugins = "x"\n'],
  ["no TOML", "[proxy_plugins\n"],
])("withTables() refuses %s rather than to damage it", (_, text) => {
  expect(() => withTables(text, TABLES)).toThrow(expect.objectContaining({ code: "usage" }));
});

test("withoutMarks() keeps a header of ours when others put keys below it", () => {
  const changed = withTables("", TABLES.slice(0, 1));
  expect(withoutMarks(`${changed}  platform = "linux/amd64"\n`)).toBe(
    '[proxy_plugins.nydus]\n  platform = "linux/amd64"\n',
  );
});
