/** `snapshotter doctor` on a node that is ready, and on nodes that are not. */
import { writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { startContainerd } from "./support/containerd.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { waitFor } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

interface Finding {
  readonly subject: string;
  readonly state: string;
  readonly found: string;
  readonly advice?: string;
}

interface Diagnosis {
  readonly code: number;
  readonly findings: readonly Finding[];
  /** What was found about one subject. */
  about(subject: string): Finding | undefined;
}

async function diagnose(place: Workspace, ...words: string[]): Promise<Diagnosis> {
  const own = ["--root", place.path("snapshots"), "--address", place.path("s.sock")];
  const { code, stdout } = await place.tool(["snapshotter", "doctor", "--json", ...own, ...words], {
    mayFail: true,
  });
  const findings = JSON.parse(stdout) as Finding[];
  for (const { state, advice } of findings) expect(advice === undefined).toBe(state === "ok");
  return { code, findings, about: (subject) => findings.find((finding) => finding.subject === subject) };
}

test("doctor finds a node ready, then names what is wrong, one thing at a time", async () => {
  const place = await workspace();
  await using containerd = await startContainerd({
    directory: place.path("c"),
    cri: true,
    config: '[plugins."io.containerd.grpc.v1.cri".containerd]\n  disable_snapshot_annotations = true\n',
  });
  const file = place.path("c/config.toml");
  const words = ["--containerd-address", containerd.address, "--containerd-config", file];

  const bare = await diagnose(place, ...words);
  expect(bare.code).toBe(1);
  for (const subject of ["kernel", "FUSE", "EROFS", "overlayfs"])
    expect(bare.about(subject)).toMatchObject({ state: "ok" });
  expect(bare.about("snapshotter")?.found).toMatch(/^nobody listens on /);
  expect(bare.about("proxy plugin")).toMatchObject({
    state: "problem",
    advice: expect.stringContaining("nydus-tool snapshotter install"),
  });

  const install = ["install", "--prefix", "/", "--dry-run", "--containerd-config", file];
  expect((await place.tool(["snapshotter", ...install])).stdout).toContain("+ [proxy_plugins.nydus]");
  const config = await Bun.file(file).text();
  await writeFile(
    file,
    `${config}[proxy_plugins.nydus]\n  type = "snapshot"\n  address = "${place.path("s.sock")}"\n`,
  );
  const stale = await diagnose(place, ...words);
  expect(stale.about("proxy plugin")?.advice).toMatch(/^systemctl restart containerd/);
  expect(stale.about("Kubernetes")).toMatchObject({ state: "problem" });

  await writeFile(file, (await Bun.file(file).text()).replace("annotations = true", "annotations = false"));
  await containerd.stop();
  await containerd.start();
  const down = await diagnose(place, ...words);
  expect(down.about("proxy plugin")).toMatchObject({ state: "problem", advice: "start the snapshotter" });

  const snapshotter = await place.startSnapshotter();
  const found = async (): Promise<boolean> =>
    (await diagnose(place, ...words)).about("proxy plugin")?.state === "ok";
  await waitFor("containerd to dial again", found);
  const ready = await diagnose(place, ...words);
  expect(ready.findings.filter(({ state }) => state === "problem")).toEqual([]);
  expect(ready.code).toBe(0);
  expect(ready.about("Kubernetes")).toMatchObject({ state: "warning" }); // it uses overlayfs
  await snapshotter.stop();
});

test("doctor says whether this node can read an image", async () => {
  const place = await workspace();
  const registry = await startEmbeddedRegistry(place);
  await writeLayout(place.path("source"), makeImage(11).layers.map(tarOf));
  const plain = `oci:${place.path("source")}:t`;
  const lazy = `${registry.host}/app:1`;
  await place.tool(["convert", plain, lazy]);
  const gone = `${registry.host}/gone:1`;
  const { code, about, findings } = await diagnose(place, lazy, plain, gone);
  expect(code).toBe(1);
  expect(about(`image ${lazy}`)?.found).toMatch(/^a Nydus image of \d+ layers$/);
  expect(about(`image ${lazy}, a part of a blob`)).toMatchObject({ state: "ok" });
  expect(about(`image ${plain}`)).toMatchObject({ state: "warning" });
  expect(about(`image ${gone}`)).toMatchObject({ state: "problem" });
  expect(findings.find(({ subject }) => subject === "containerd")?.advice).toContain(
    "systemctl start containerd",
  );
});
