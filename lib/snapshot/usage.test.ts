import { link, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../../tests/support/process.ts";
import { diskUsage } from "./usage.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp("/tmp/nt-usage-");
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function du(): Promise<{ size: number; inodes: number }> {
  const count = async (flag: string): Promise<number> =>
    Number((await run("du", ["-s", ...flag.split(" "), directory])).stdout.split("\t")[0]);
  return { size: await count("--block-size=1"), inodes: await count("--inodes") };
}

test("diskUsage() counts what du counts: links once, holes not, symlinks unfollowed, names of any bytes", async () => {
  await mkdir(`${directory}/a/b`, { recursive: true });
  await writeFile(`${directory}/a/file`, "x".repeat(100_000));
  await link(`${directory}/a/file`, `${directory}/a/b/again`);
  await writeFile(`${directory}/a/hole`, "");
  await truncate(`${directory}/a/hole`, 1 << 30);
  await symlink("/usr", `${directory}/a/out`);
  await symlink("loop", `${directory}/a/loop`);
  const odd = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0x6e, 0xff, 0xfe, 0x80])]);
  await mkdir(odd);
  await writeFile(Buffer.concat([odd, Buffer.from("/inside")]), "y".repeat(5000));
  for (let i = 0; i < 300; i++) await writeFile(`${directory}/a/b/${i}`, "z");
  expect(await diskUsage(directory)).toEqual(await du());
});

test("diskUsage() of what is not there is nothing", async () => {
  expect(await diskUsage(`${directory}/missing`)).toEqual({ size: 0, inodes: 0 });
});

test("diskUsage() stops when told to", async () => {
  await expect(diskUsage(directory, { signal: AbortSignal.abort() })).rejects.toThrow();
});
