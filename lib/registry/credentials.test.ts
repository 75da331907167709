/** Credentials as docker keeps them: in config.json, and behind helper programs. */
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { type Credentials, dockerCredentials } from "./credentials.ts";

let directory: string;
let env: Record<string, string>;

beforeEach(async () => {
  const made = await mkdtemp(join(tmpdir(), "nt-credentials-"));
  directory = made;
  env = { DOCKER_CONFIG: made, HOME: join(made, "home"), PATH: `${made}/bin:${process.env.PATH ?? ""}` };
  await mkdir(join(made, "bin"));
  onTestFinished(() => rm(made, { recursive: true, force: true }));
});

async function ask(
  config: object | string,
  registry: string,
  signal?: AbortSignal,
): Promise<Credentials | undefined> {
  const text = typeof config === "string" ? config : JSON.stringify(config);
  await writeFile(join(directory, "config.json"), text);
  return dockerCredentials({ env })(registry, signal === undefined ? {} : { signal });
}

/** A helper that notes what it was asked, and runs `script`. */
async function helper(name: string, script: string): Promise<void> {
  const path = join(directory, "bin", `docker-credential-${name}`);
  const note = `read server; echo "$1 $server" >> "${directory}/asked"`;
  await writeFile(path, `#!/bin/sh\n${note}\n${script}\n`);
  await chmod(path, 0o755);
}

async function asked(): Promise<string> {
  return Bun.file(join(directory, "asked")).text();
}

const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text, "utf8").toString("base64") });
const ME: Credentials = { username: "me", password: "a:b ä" };

test.each([
  ["its host", "host:5000", "host:5000"],
  ["a URL of it", "host:5000", "https://host:5000/v1/"],
  ["docker's own name", "docker.io", "https://index.docker.io/v1/"],
  ["another name of docker's", "docker.io", "index.docker.io"],
])("dockerCredentials() finds a registry under %s", async (_what, registry, key) => {
  const auths = { "other:5000": auth("x:y"), [key]: auth("me:a:b ä") };
  expect(await ask({ auths }, registry)).toEqual(ME);
});

test.each([
  ["another port", "host:5001"],
  ["another host that ends the same", "evil-host:5000"],
  ["another host that starts the same", "host:5000.example.com"],
])("dockerCredentials() gives nothing to %s", async (_what, registry) => {
  expect(await ask({ auths: { "host:5000": auth("me:secret") } }, registry)).toBeUndefined();
});

test.each([
  ["plain fields", { username: "me", password: "a:b ä" }, ME],
  ["an identity token", { ...auth("me:"), identitytoken: "long" }, { identityToken: "long" }],
  ["an empty entry", {}, undefined],
  ["no colon", auth("nobody"), undefined],
  ["something else", "text", undefined],
])("dockerCredentials() reads an entry with %s", async (_what, entry, wanted) => {
  expect(await ask({ auths: { host: entry } }, "host")).toEqual(wanted);
});

test("dockerCredentials() does without a file, and looks in the home directory by default", async () => {
  expect(await dockerCredentials({ env })("host", {})).toBeUndefined();
  const { DOCKER_CONFIG: _, ...without } = env;
  await mkdir(join(directory, "home", ".docker"), { recursive: true });
  const config = JSON.stringify({ auths: { host: auth("me:a:b ä") } });
  await writeFile(join(directory, "home", ".docker", "config.json"), config);
  expect(await dockerCredentials({ env: without })("host", {})).toEqual(ME);
});

test("dockerCredentials() sees a login that comes later", async () => {
  const source = dockerCredentials({ env });
  expect(await source("host", {})).toBeUndefined();
  await writeFile(join(directory, "config.json"), JSON.stringify({ auths: { host: auth("me:a:b ä") } }));
  expect(await source("host", {})).toEqual(ME);
});

test("dockerCredentials() refuses a file that is not JSON, and shows nothing of it", async () => {
  const failure = ask('{"auths": secret', "host");
  await expect(failure).rejects.toMatchObject({ code: "corrupt" });
  await expect(failure).rejects.not.toThrow("secret");
});

test("dockerCredentials() asks the helper of the registry before the one for all", async () => {
  await helper("one", `echo '{"ServerURL":"","Username":"me","Secret":"a:b ä"}'`);
  await helper("all", "exit 1");
  expect(await ask({ credHelpers: { host: "one" }, credsStore: "all" }, "host")).toEqual(ME);
  expect(await asked()).toBe("get host\n");
});

test("dockerCredentials() asks the helper for all under the names that docker uses", async () => {
  await helper(
    "all",
    `[ "$server" = "https://index.docker.io/v1/" ] && echo '{"Username":"me","Secret":"a:b ä"}'`,
  );
  expect(await ask({ credsStore: "all" }, "docker.io")).toEqual(ME);
});

test("dockerCredentials() takes an identity token from a helper", async () => {
  await helper("all", `echo '{"Username":"<token>","Secret":"long"}'`);
  expect(await ask({ credsStore: "all" }, "host")).toEqual({ identityToken: "long" });
});

test("dockerCredentials() goes on without a name when the helper has none", async () => {
  await helper("all", "echo 'credentials not found in native keychain'; exit 1");
  expect(await ask({ credsStore: "all" }, "host")).toBeUndefined();
  expect(await ask({ credsStore: "all", auths: { host: auth("me:a:b ä") } }, "host")).toEqual(ME);
});

test.each([
  ["fails", "echo secret; exit 3", "denied", "exit code 3"],
  ["prints no JSON", "echo secret", "corrupt", "not JSON"],
])(
  "dockerCredentials() reports a helper that %s, and shows nothing of it",
  async (_what, script, code, text) => {
    await helper("bad", script);
    const failure = ask({ credsStore: "bad" }, "host");
    await expect(failure).rejects.toMatchObject({ code });
    await expect(failure).rejects.toThrow(text);
    await expect(failure).rejects.not.toThrow("secret");
  },
);

test.each([
  ["is not installed", "absent", "not installed"],
  ["has a path for a name", "../../bin/sh", "not plain"],
])("dockerCredentials() reports a helper that %s", async (_what, name, text) => {
  await expect(ask({ credsStore: name }, "host")).rejects.toThrow(text);
});

test("dockerCredentials() stops a helper that hangs when its signal fires", async () => {
  await helper("slow", "exec sleep 60");
  const controller = new AbortController();
  const failure = ask({ credsStore: "slow" }, "host", controller.signal);
  await expect.poll(() => Bun.file(join(directory, "asked")).exists()).toBe(true);
  controller.abort();
  await expect(failure).rejects.toMatchObject({ code: "cancelled" });
});
