import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { quietLogger } from "../lib/base/log.ts";
import { silent } from "../lib/base/progress.ts";
import { OciArchive } from "../lib/content/oci-archive.ts";
import { OciLayout } from "../lib/content/oci-layout.ts";
import type { ConvertReport } from "../lib/convert/report.ts";
import { readConverted } from "../tests/support/converted-image.ts";
import { writeLayout } from "../tests/support/oci-layout.ts";
import { tarOf } from "../tests/support/tar-builder.ts";
import { parseCommandLine } from "./command.ts";
import { convert } from "./convert.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "convert-verb-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function run(...argv: string[]): Promise<string> {
  const lines: string[] = [];
  await convert.run(parseCommandLine(convert, argv), {
    log: quietLogger,
    signal: new AbortController().signal,
    progress: () => silent,
    print: (line) => lines.push(line),
    env: {},
  });
  return lines.join("\n");
}

async function layout(): Promise<string> {
  const tar = tarOf([{ path: "hello", type: "file", data: Buffer.from("hello".repeat(2000)) }]);
  return (await writeLayout(join(directory, "source"), [tar])).directory;
}

test("convert makes an image where there was nothing, and says what it made", async () => {
  const target = `oci:${join(directory, "target")}:nydus`;
  const said = await run(`oci:${await layout()}`, target);
  expect(said).toMatch(/nydus is ready \(sha256:[0-9a-f]{64}\)/);
  expect(said).toMatch(/1 layer, .* sent in/);
  const { entries } = await readConverted(await OciLayout.open(join(directory, "target")), "nydus");
  expect(entries.map(({ path }) => path)).toEqual(["/", "/hello"]);
});

test("convert writes the same report to a file and as JSON, and sends nothing the second time", async () => {
  const file = join(directory, "report.json");
  const operands = [`oci:${await layout()}`, `oci:${join(directory, "target")}:nydus`] as const;
  const said = await run("--json", "--output-json", file, ...operands);
  const report: ConvertReport = JSON.parse(said);
  expect(JSON.parse(await readFile(file, "utf8"))).toEqual(report);
  expect(report).toMatchObject({ copied: false, pushedSize: report.targetSize });
  expect(report.layers).toMatchObject([{ entries: 1, chunks: 1, pushed: true }]);
  const again: ConvertReport = JSON.parse(await run("--json", ...operands));
  expect(again).toMatchObject({ targetDigest: report.targetDigest, pushedSize: 0 });
});

test("convert copies an image that is Nydus already, and says so", async () => {
  const first = `oci:${join(directory, "first")}:t`;
  const report: ConvertReport = JSON.parse(await run("--json", `oci:${await layout()}`, first));
  const said = await run(first, `oci:${join(directory, "second")}:t`);
  expect(said).toContain("is a copy: the source is a Nydus image already");
  const { image } = await readConverted(await OciLayout.open(join(directory, "second")), "t");
  expect(image.descriptor.digest).toBe(report.targetDigest);
});

test("convert writes archives, reads them, and copies between them", async () => {
  const archive = (name: string): string => `oci-archive:${join(directory, name)}:t`;
  const report: ConvertReport = JSON.parse(await run("--json", `oci:${await layout()}`, archive("a.tar")));
  const copy: ConvertReport = JSON.parse(await run("--json", archive("a.tar"), archive("b.tar")));
  expect(copy).toMatchObject({ copied: true, targetDigest: report.targetDigest });
  await using store = await OciArchive.open(join(directory, "b.tar"));
  const { entries } = await readConverted(store, "t");
  expect(entries.map(({ path }) => path)).toEqual(["/", "/hello"]);
  expect((await readdir(directory)).sort()).toEqual(["a.tar", "b.tar", "source"]);
});

test("convert takes formats, and a list of what to prefetch", async () => {
  const flags = ["--compressor", "lz4_block", "--digester", "blake3", "--chunk-size", "4K"];
  const target = join(directory, "target");
  await run(
    ...flags,
    "--prefetch",
    "/hello",
    "--prefetch",
    "/gone",
    `oci:${await layout()}`,
    `oci:${target}`,
  );
  const { bootstrap } = await readConverted(await OciLayout.open(target));
  const { compressor, digester, chunkSize, prefetchTable } = bootstrap.superblock;
  expect([compressor, digester, chunkSize]).toEqual(["lz4_block", "blake3", 4096]);
  const hello = bootstrap.lookup(bootstrap.rootNid, "hello" as never);
  expect(prefetchTable.size).toBe(4);
  expect(bootstrap.view.getUint32(prefetchTable.offset, true)).toBe(hello);
});

test("convert takes a directory", async () => {
  const target = join(directory, "target");
  await layout();
  await run(`dir:${join(directory, "source")}`, `oci:${target}`);
  const { entries } = await readConverted(await OciLayout.open(target));
  expect(entries.map(({ path }) => path)).toContain("/oci-layout");
});

test.each([
  [["--compressor", "gzip"], /--compressor "gzip": it must be one of zstd, lz4_block, none/],
  [["--chunk-size", "5000"], /chunk size 5000: it must be a power of two/],
  [["--concurrency", "0"], /--concurrency "0"/],
  [["--platform", "amd64"], /platform "amd64"/],
])("convert refuses %j as wrong usage", async (flags, message) => {
  const error = await run(...flags, `oci:${await layout()}`, `oci:${directory}/t`).catch((thrown) => thrown);
  expect(error).toMatchObject({ code: "usage", message: expect.stringMatching(message) });
});

test("convert refuses an image that is not there, and makes no target for it", async () => {
  const target = join(directory, "target");
  await expect(run(`oci:${directory}/none`, `oci:${target}`)).rejects.toMatchObject({ code: "not_found" });
  await expect(OciLayout.open(target)).rejects.toMatchObject({ code: "not_found" });
});
