import { expect, test } from "vitest";
import { containerdTables, parseVersion } from "./containerd-settings.ts";
import { parse, withTables } from "./toml-lines.ts";

const settings = {
  ...{ name: "nydus", address: "/run/s.sock", root: "/var/lib/n" },
  ...{ program: "/usr/bin/nydus-tool", cri: true },
};

function configured(text: string, version: string | undefined): Record<string, unknown> {
  const tables = containerdTables(parse(text), { ...settings, version: parseVersion(version ?? "") });
  return parse(withTables(text, tables));
}

test.each([
  ["containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", { major: 1, minor: 6 }],
  [
    "containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e4e490e9fbdc236c0e811ccaba3376",
    { major: 2, minor: 1 },
  ],
  ["1.7", { major: 1, minor: 7 }],
  ["nonsense", undefined],
])("parseVersion() reads %s", (text, version) => expect(parseVersion(text)).toEqual(version));

test("containerdTables() names the CRI plugin as the file's format does", () => {
  const cri = { snapshotter: "nydus", disable_snapshot_annotations: false };
  const old = configured('disabled_plugins = ["cri"]\n', "1.6");
  expect(old).toMatchObject({ plugins: { cri: { containerd: cri } } });
  expect(old).not.toHaveProperty("version"); // another format would read "cri" otherwise
  expect(configured("version = 2\n", "1.6")).toMatchObject({
    plugins: { "io.containerd.grpc.v1.cri": { containerd: cri } },
  });
  expect(configured("", "2.0")).toMatchObject({
    version: 3,
    plugins: { "io.containerd.cri.v1.images": cri },
  });
});

test("containerdTables() gives containerd 2 the labels and the unpacking it needs, and 1.6 nothing it does not know", () => {
  const path = "io.containerd.transfer.v1.local";
  const [overlayfs, nydus] = ["overlayfs", "nydus"].map((snapshotter) => ({
    platform: "linux",
    snapshotter,
  }));
  expect(configured("version = 3\n", "2.1")).toMatchObject({
    proxy_plugins: {
      nydus: { exports: { root: "/var/lib/n", enable_remote_snapshot_annotations: "true" } },
    },
    plugins: { [path]: { unpack_config: [overlayfs, nydus] } },
  });
  const own = `version = 3\n[[plugins."${path}".unpack_config]]\nplatform = "linux"\nsnapshotter = "overlayfs"\n`;
  expect(configured(own, "2.1")).toMatchObject({
    plugins: { [path]: { unpack_config: [overlayfs, nydus] } },
  });
  for (const version of ["1.6", undefined])
    expect(configured("version = 2\n", version)).toMatchObject({
      proxy_plugins: { nydus: { type: "snapshot", address: "/run/s.sock" } },
    });
  expect(configured("version = 2\n", "1.6")).not.toHaveProperty(["plugins", path]);
  expect(configured("version = 2\n", "1.6")).not.toHaveProperty("proxy_plugins.nydus.exports");
});

test("containerdTables() has data layers processed that were fetched", () => {
  expect(configured("version = 2\n", "1.6")).toMatchObject({
    stream_processors: {
      "nydus-tool.blob": {
        accepts: ["application/vnd.oci.image.layer.nydus.blob.v1"],
        returns: "application/vnd.oci.image.layer.v1.tar",
        path: "/usr/bin/nydus-tool",
        args: ["stream-processor"],
      },
    },
  });
});

test("containerdTables() refuses a format that is not known", () => {
  expect(() => configured("version = 9\n", "2.0")).toThrow(expect.objectContaining({ code: "unsupported" }));
});
