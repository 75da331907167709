import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Arguments } from "./command.ts";
import { withConfig } from "./snapshotter-config.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "nydus-config-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function load(text: string, flags: Readonly<Record<string, unknown>> = {}) {
  const config = join(directory, "config.toml");
  await writeFile(config, text);
  return await withConfig(new Arguments([], { ...flags, config }));
}

test("withConfig() takes the flags' own names, below the flags themselves", async () => {
  const text = 'root = "/srv/n"\nlog-level = "debug"\nplain-http = true\n';
  const { args, warnings } = await load(text, { root: "/srv/flag" });
  expect(args.string("root")).toBe("/srv/flag");
  expect(args.string("log-level")).toBe("debug");
  expect(args.boolean("plain-http")).toBe(true);
  expect(warnings).toEqual([]);
});

test.each([
  ["an unknown key", 'rot = "/x"'],
  ["itself", 'config = "/x"'],
  ["a wrong type", "root = 5"],
  ["a word for a switch", 'insecure = "yes"'],
  ["what is not TOML", "root = ["],
])("withConfig() refuses %s", async (_, text) => {
  await expect(load(text)).rejects.toMatchObject({ code: "usage" });
});

test("withConfig() reads nydus-snapshotter's configuration, and nydusd's below it", async () => {
  const nydusd = join(directory, "nydusd.json");
  await writeFile(
    nydusd,
    JSON.stringify({
      device: { backend: { config: { scheme: "http" } }, cache: { config: { work_dir: "/a" } } },
      odd: 1,
    }),
  );
  const text = `version = 1\nroot = "/srv/n"\n[daemon]\nnydusd_config = "${nydusd}"\nfs_driver = "fscache"\n`;
  const { args, warnings } = await load(`${text}[cache_manager]\ncache_dir = "/b"\n`);
  expect(args.string("root")).toBe("/srv/n");
  expect(args.string("cache-dir")).toBe("/b");
  expect(args.boolean("plain-http")).toBe(true);
  expect(warnings).toEqual([
    expect.stringMatching(/config\.toml: "daemon\.fs_driver" is not supported/),
    `${nydusd}: "odd" is not known`,
  ]);
  await rm(nydusd);
  expect((await load(text)).warnings).toContain(`${nydusd}: does not exist`);
});
