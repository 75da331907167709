/** The kubelet's credential providers: real programs, by a clock of the test's own. */
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLogger } from "../base/log.ts";
import type { CredentialSource } from "../registry/credentials.ts";
import { parseDuration } from "./duration.ts";
import { parseProviderConfig, readProviderConfig } from "./kubelet-config.ts";
import { kubeletProviders } from "./kubelet-providers.ts";

const V1 = "credentialprovider.kubelet.k8s.io/v1";
const NAME = ["registry.example", { repository: "team/app" }] as const;

let directory: string;
let now: number;
let lines: string[];
beforeEach(async () => {
  directory = await mkdtemp("/tmp/nt-provider-");
  await mkdir(`${directory}/bin`);
  now = 1_000_000;
  lines = [];
});
afterEach(() => rm(directory, { recursive: true }));

/** A provider whose every answer has the next password; it notes what it is asked. */
async function provider(fields = '"cacheKeyType":"Registry","cacheDuration":"100s"'): Promise<void> {
  const auth = '{"registry.example":{"username":"robot","password":"\'"$PREFIX$count"\'"}}';
  const answer = `{"kind":"CredentialProviderResponse","apiVersion":"${V1}",${fields},"auth":${auth}}`;
  const script = [
    "#!/bin/sh",
    `cat >> ${directory}/asked; echo >> ${directory}/asked`,
    `count=$(wc -l < ${directory}/asked)`,
    `echo '${answer}'`,
    `test ! -e ${directory}/broken`,
  ];
  await writeFile(`${directory}/bin/login`, `${script.join("\n")}\n`);
  await chmod(`${directory}/bin/login`, 0o755);
}

async function open(matchImages = '["registry.example", "*.other.example"]'): Promise<CredentialSource> {
  const config = `
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: login
    matchImages: ${matchImages}
    defaultCacheDuration: "1h"
    apiVersion: ${V1}
    env: [{name: PREFIX, value: pass-}]
`;
  await writeFile(`${directory}/config.yaml`, config);
  return kubeletProviders({
    providers: await readProviderConfig(`${directory}/config.yaml`),
    binDirectory: `${directory}/bin`,
    log: createLogger((line) => lines.push(line), "debug"),
    now: () => now,
  });
}

const password = async (source: CredentialSource, ...[registry, request]: Parameters<CredentialSource>) => {
  const found = await source(registry, request);
  return found !== undefined && "password" in found ? found.password : undefined;
};
const asked = async (): Promise<unknown[]> =>
  (await readFile(`${directory}/asked`, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

test("kubeletProviders() asks for an image without its tag, once for many, and not for images of others", async () => {
  await provider();
  const source = await open();
  const many = await Promise.all([1, 2, 3].map(() => source(...NAME)));
  expect(many).toEqual(Array(3).fill({ username: "robot", password: "pass-1", expires: now + 100_000 }));
  expect(await asked()).toEqual([
    { kind: "CredentialProviderRequest", apiVersion: V1, image: "registry.example/team/app" },
  ]);
  expect(await source("elsewhere.example", { repository: "a" })).toBeUndefined();
  expect(await asked()).toHaveLength(1);
});

test.each([
  ["Image", 2],
  ["Registry", 1],
  ["Global", 1],
])("kubeletProviders() keeps an answer for the %s", async (type, calls) => {
  await provider(`"cacheKeyType":"${type}","cacheDuration":"1h"`);
  const source = await open();
  await source(...NAME);
  await source(NAME[0], { repository: "another" });
  expect(await asked()).toHaveLength(calls);
});

test("kubeletProviders() renews an answer that is used before it ends, while the old one is good", async () => {
  await provider();
  const source = await open();
  expect(await password(source, ...NAME)).toBe("pass-1");
  now += 79_000;
  expect(await password(source, ...NAME)).toBe("pass-1");
  now += 2_000;
  expect(await password(source, ...NAME)).toBe("pass-1");
  await expect.poll(() => password(source, ...NAME)).toBe("pass-2");
  now += 101_000;
  expect(await password(source, ...NAME)).toBe("pass-3");
});

test("kubeletProviders() asks again for what was refused, and for answers that must not be kept", async () => {
  await provider();
  const source = await open();
  const first = await source(...NAME);
  expect(await password(source, NAME[0], { ...NAME[1], refused: first ? [first] : [] })).toBe("pass-2");
  expect(await password(source, ...NAME)).toBe("pass-2");
  await provider('"cacheKeyType":"Image","cacheDuration":"0s"');
  now += 1_000_000;
  expect(await password(source, ...NAME)).toBe("pass-3");
  expect(await password(source, ...NAME)).toBe("pass-4");
});

test("kubeletProviders() uses the default duration where the answer says none", async () => {
  await provider('"cacheKeyType":"Image"');
  expect(await (await open())(...NAME)).toMatchObject({ expires: now + 3_600_000 });
});

test("kubeletProviders() says which provider failed, and not what it printed", async () => {
  await provider();
  const source = await open();
  await writeFile(`${directory}/broken`, "");
  await expect(source(...NAME)).rejects.toMatchObject({
    code: "denied",
    message:
      'Cannot get credentials for "registry.example" from provider "login": it failed with exit code 1',
  });
  await rm(`${directory}/broken`);
  await provider('"cacheKeyType":"Odd"');
  const failure = source(...NAME);
  await expect(failure).rejects.toMatchObject({ code: "corrupt" });
  await expect(failure).rejects.not.toThrow("pass-");
  await rm(`${directory}/bin/login`);
  await expect(source(...NAME)).rejects.toThrow("it is not installed");
});

test("readProviderConfig() takes a directory of files, and no provider twice", async () => {
  await open();
  const others = `${directory}/many`;
  await mkdir(others);
  const text = await readFile(`${directory}/config.yaml`, "utf8");
  await writeFile(`${others}/1.yaml`, text);
  await writeFile(`${others}/2.yml`, text.replace("name: login", "name: second"));
  await writeFile(`${others}/notes.txt`, "no configuration");
  expect((await readProviderConfig(others)).map(({ name }) => name)).toEqual(["login", "second"]);
  await writeFile(`${others}/3.json`, text);
  await expect(readProviderConfig(others)).rejects.toThrow('provider "login" occurs twice');
  await expect(readProviderConfig(`${directory}/absent`)).rejects.toMatchObject({ code: "not_found" });
});

const GOOD = {
  apiVersion: "kubelet.config.k8s.io/v1",
  kind: "CredentialProviderConfig",
  providers: [{ name: "p", matchImages: ["a"], defaultCacheDuration: "1s", apiVersion: V1 }],
};
const [P] = GOOD.providers;
test.each([
  ["another kind", { ...GOOD, kind: "Odd" }, "it is not a CredentialProviderConfig"],
  ["no provider", { ...GOOD, providers: [] }, "it names no provider"],
  ["a path for a name", { ...GOOD, providers: [{ ...P, name: "../p" }] }, "has no plain name"],
  ["no images", { ...GOOD, providers: [{ ...P, matchImages: [] }] }, "matches no image"],
  ["no duration", { ...GOOD, providers: [{ ...P, defaultCacheDuration: "x" }] }, "no default cache duration"],
  ["another protocol", { ...GOOD, providers: [{ ...P, apiVersion: "v9" }] }, "API version"],
  [
    "what needs a pod's token",
    { ...GOOD, providers: [{ ...P, tokenAttributes: { requireServiceAccount: true } }] },
    "requires a service account's token",
  ],
])("parseProviderConfig() refuses %s", (_, config, state) => {
  expect(parseProviderConfig(JSON.stringify(GOOD), "f")).toHaveLength(1);
  expect(() => parseProviderConfig(JSON.stringify(config), "f")).toThrow(state);
});

test.each([
  ["12h", 43_200_000],
  ["1h30m", 5_400_000],
  ["1.5s", 1500],
  ["0", 0],
  ["0s", 0],
  ["", undefined],
  ["5", undefined],
  ["-1s", undefined],
  ["1d", undefined],
])("parseDuration(%j) is %j", (text, expected) => {
  expect(parseDuration(text)).toBe(expected);
});
