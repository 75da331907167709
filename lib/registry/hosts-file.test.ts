/** containerd's host configuration as files: where it is looked for and what it means. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import type { Place } from "./endpoint.ts";
import { configuredPlaces } from "./hosts-file.ts";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "nt-hosts-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
});

function write(name: string, text: string): string {
  const path = join(directory, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, text);
  return path;
}

function places(text: string): readonly Place[] {
  write("registry.example/hosts.toml", text);
  return configuredPlaces(directory, "registry.example") ?? [];
}

function apis(text: string): readonly (string | undefined)[] {
  return places(text).map(({ api }) => api?.href);
}

test("configuredPlaces() finds nothing where nothing is configured", () => {
  expect(configuredPlaces(directory, "registry.example")).toBeUndefined();
  expect(configuredPlaces(join(directory, "missing"), "registry.example")).toBeUndefined();
  write("hosts.toml", 'server = "https://not-for-us"');
  for (const registry of ["..", ".", "a/b", ""])
    expect(configuredPlaces(directory, registry)).toBeUndefined();
});

test.each([
  ["host:5000", ["host_5000_", "host:5000", "_default"]],
  ["docker.io", ["docker.io", "_default"]],
])("configuredPlaces() looks for %s in %j", (registry, names) => {
  for (const name of names.toReversed()) {
    write(`${name}/hosts.toml`, `server = "https://from-${name.replaceAll(/\W/g, "-")}"`);
    const [place] = configuredPlaces(directory, registry) ?? [];
    expect(place?.api?.host).toBe(`from-${name.replaceAll(/\W/g, "-").toLowerCase()}`);
  }
});

test("configuredPlaces() keeps the order of mirrors, and the server comes last", () => {
  const text = `
    server = "https://upstream.example"
    [host."https://z.example"]
    [host."http://a.example:5000"]
    [host."10.0.0.1"]
  `;
  expect(apis(text)).toEqual([
    "https://z.example/v2",
    "http://a.example:5000/v2",
    "https://10.0.0.1/v2",
    "https://upstream.example/v2",
  ]);
  expect(apis('[host."https://z.example"]')).toEqual(["https://z.example/v2", undefined]);
});

test.each([
  ['[host."https://m/cache"]', "https://m/cache/v2"],
  ['[host."https://m/v2/cache"]', "https://m/v2/cache/v2"],
  ['[host."https://m/cache/v2/"]', "https://m/cache/v2"],
  ['[host."https://m/v2/cache"]\noverride_path = true', "https://m/v2/cache"],
  ['[host."https://m"]\noverride_path = true', "https://m/"],
])("configuredPlaces() finds the API of %s at %s", (text, api) => {
  expect(apis(text)[0]).toBe(api);
});

test("configuredPlaces() reads capabilities, headers and certificates of each place", () => {
  write("registry.example/ca.pem", "AUTHORITY");
  const own = write("elsewhere/own.pem", "CERT AND KEY");
  write("elsewhere/key.pem", "KEY");
  const [first, second, server] = places(`
    ca = "ca.pem"
    skip_verify = false
    [host."https://one"]
      capabilities = ["Pull"]
      ca = ["ca.pem", "${own}"]
      client = "${own}"
      [host."https://one".header]
        X-Token = "secret"
        x-many = ["a", "b"]
    [host."https://two"]
      skip_verify = true
      client = [["${own}", "../elsewhere/key.pem"]]
  `);
  expect([...(first?.capabilities ?? [])]).toEqual(["pull"]);
  expect(first?.headers).toEqual({ "x-token": "secret", "x-many": "a, b" });
  expect(first?.tls).toEqual({
    ca: ["AUTHORITY", "CERT AND KEY"],
    certificate: { cert: "CERT AND KEY", key: "CERT AND KEY" },
  });
  expect([...(second?.capabilities ?? [])]).toEqual(["pull", "resolve", "push"]);
  expect(second?.tls).toEqual({ skipVerify: true, certificate: { cert: "CERT AND KEY", key: "KEY" } });
  expect(server).toMatchObject({ api: undefined, tls: { ca: ["AUTHORITY"], skipVerify: false } });
});

test("configuredPlaces() takes certificates alone, as docker has them", () => {
  write("registry.example/a.crt", "A");
  write("registry.example/b.crt", "B");
  write("registry.example/me.cert", "CERT");
  write("registry.example/me.key", "KEY");
  expect(configuredPlaces(directory, "registry.example")).toEqual([
    expect.objectContaining({
      api: undefined,
      tls: { ca: ["A", "B"], certificate: { cert: "CERT", key: "KEY" } },
    }),
  ]);
});

test.each([
  ["server = [", "it is not TOML"],
  ["server = 5", "server is not text"],
  ['host = "x"', "host is not a table"],
  ['[host."https://"]', 'host "https://" is not an address'],
  ['[host."https://user:geheim@m"]', "a host must not hold a password"],
  ['[host."https://m"]\ncapabilities = ["fly"]', 'capabilities holds "fly"'],
  ['[host."https://m"]\nskip_verify = "yes"', "skip_verify is not a boolean"],
  ['[host."https://m"]\nca = 5', "ca is neither text nor a list"],
  ['[host."https://m"]\nclient = ["a", "b"]', "client names more than one certificate"],
  ['[host."https://m".header]\n"a b" = "geheim"', 'header "a b" is not a header'],
  ['[host."https://m".header]\nx = "geheim\\n"', 'header "x" is not a header'],
])("configuredPlaces() refuses %j, and shows no secret", (text, state) => {
  const read = (): unknown => places(text);
  expect(read).toThrow(`Cannot use "${join(directory, "registry.example/hosts.toml")}": ${state}`);
  expect(read).not.toThrow("geheim");
});

test("configuredPlaces() names a certificate that is missing", () => {
  expect(() => places('ca = "missing.pem"')).toThrow(`"${join(directory, "registry.example/missing.pem")}"`);
});
