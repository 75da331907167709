/** Pull secrets of a cluster, followed over TLS with each way to log in. */
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { type KubeApi, startKubeApi } from "../../tests/support/kube-api.ts";
import { createLogger } from "../base/log.ts";
import { KubeClient } from "./kube-client.ts";
import { readKubeconfig } from "./kubeconfig.ts";
import { KubernetesSecrets } from "./kubernetes-secrets.ts";

let directory: string;
let api: KubeApi;
let lines: string[];
beforeAll(async () => {
  directory = await mkdtemp("/tmp/nt-kube-");
  api = await startKubeApi(directory);
});
afterAll(async () => {
  await api[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});
beforeEach(() => {
  lines = [];
  api.queries.length = 0;
  api.tokens.clear();
  for (const name of ["a", "b", "c"]) api.remove(name);
});

/** As kubectl's file: JSON is YAML. */
async function kubeconfig(user: object, cluster: object = {}): Promise<string> {
  const data = Buffer.from(api.ca).toString("base64");
  const config = {
    "current-context": "here",
    contexts: [{ name: "here", context: { cluster: "c", user: "u" } }],
    clusters: [{ name: "c", cluster: { server: api.url, "certificate-authority-data": data, ...cluster } }],
    users: [{ name: "u", user }],
  };
  const path = `${directory}/config-${Math.random()}`;
  await writeFile(path, JSON.stringify(config));
  return path;
}

function follow(path: string): KubernetesSecrets {
  const client = new KubeClient(() => readKubeconfig(path));
  const secrets = new KubernetesSecrets(
    client,
    createLogger((line) => lines.push(line), "debug"),
  );
  onTestFinished(() => secrets[Symbol.dispose]());
  return secrets;
}

const login = (password: string): object => ({ auth: Buffer.from(`robot:${password}`).toString("base64") });
const passwordFor = async (secrets: KubernetesSecrets, image: string): Promise<string | undefined> => {
  const [registry = "", ...rest] = image.split("/");
  const found = await secrets.source(registry, { repository: rest.join("/") });
  return found !== undefined && "password" in found ? found.password : undefined;
};

test("KubernetesSecrets lists in pages, then follows what is added, changed and removed", async () => {
  api.tokens.add("t0ken");
  api.put("a", { "registry.example": login("one") });
  api.put("b", { "registry.example/team": login("two") });
  api.put("c", { "https://index.docker.io/v1/": login("hub") });
  const secrets = follow(await kubeconfig({ token: "t0ken" }));
  expect(await passwordFor(secrets, "registry.example/team/app")).toBe("two");
  expect(await passwordFor(secrets, "registry.example/other/app")).toBe("one");
  expect(await passwordFor(secrets, "docker.io/library/nginx")).toBe("hub");
  expect(api.queries.some((query) => query.get("continue") === "2")).toBe(true);
  await expect.poll(() => api.queries.some((query) => query.get("watch") === "true")).toBe(true);
  api.put("a", { "registry.example": login("changed") });
  await expect.poll(() => passwordFor(secrets, "registry.example/x")).toBe("changed");
  api.remove("b");
  await expect.poll(() => passwordFor(secrets, "registry.example/team/app")).toBe("changed");
});

test("KubernetesSecrets lists again when its watch is too old", async () => {
  api.tokens.add("t0ken");
  const secrets = follow(await kubeconfig({ token: "t0ken" }));
  await expect.poll(() => api.queries.some((query) => query.get("watch") === "true")).toBe(true);
  api.expire();
  api.put("a", { "registry.example": login("later") });
  await expect.poll(() => passwordFor(secrets, "registry.example/x"), { timeout: 10_000 }).toBe("later");
});

test("KubernetesSecrets gives another secret for one that was refused", async () => {
  api.tokens.add("t0ken");
  api.put("a", { "registry.example": login("one") });
  api.put("b", { "registry.example": login("two") });
  const { source } = follow(await kubeconfig({ token: "t0ken" }));
  const first = await source("registry.example", { repository: "x" });
  const second = await source("registry.example", { repository: "x", refused: first ? [first] : [] });
  expect([first, second]).toEqual([
    { username: "robot", password: "one" },
    { username: "robot", password: "two" },
  ]);
});

test("KubeClient logs in with a certificate", async () => {
  await writeFile(`${directory}/me.crt`, api.client.cert);
  api.put("a", { "registry.example": login("one") });
  const user = {
    "client-certificate": "me.crt",
    "client-key-data": Buffer.from(api.client.key).toString("base64"),
  };
  expect(await passwordFor(follow(await kubeconfig(user)), "registry.example/x")).toBe("one");
});

test("KubeClient logs in with an exec plugin, and asks it again when its token is refused", async () => {
  const plugin = `${directory}/plugin`;
  const answer =
    '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}';
  await writeFile(
    plugin,
    `#!/bin/sh\necho "$KUBERNETES_EXEC_INFO" > ${directory}/asked\nprintf '${answer}' "$PREFIX$(cat ${directory}/token)$1"\n`,
  );
  await chmod(plugin, 0o755);
  await writeFile(`${directory}/token`, "0");
  api.put("a", { "registry.example": login("one") });
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1",
    command: "./plugin",
    args: ["!"],
    env: [{ name: "PREFIX", value: "exec-" }],
  };
  const secrets = follow(await kubeconfig({ exec }));
  expect(await passwordFor(secrets, "registry.example/x")).toBeUndefined();
  api.tokens.add("exec-1!");
  await writeFile(`${directory}/token`, "1");
  await expect.poll(() => passwordFor(secrets, "registry.example/x"), { timeout: 15_000 }).toBe("one");
  const asked = JSON.parse(await Bun.file(`${directory}/asked`).text());
  expect(asked).toMatchObject({ kind: "ExecCredential", spec: { interactive: false } });
  expect(lines.join("")).toContain("it answered 401");
  expect(lines.join("")).not.toContain("exec-");
});

test("KubeClient believes nobody whom the kubeconfig's authority does not vouch for", async () => {
  api.tokens.add("t0ken");
  api.put("a", { "registry.example": login("one") });
  const system = { "certificate-authority-data": undefined };
  const path = await kubeconfig({ token: "t0ken" }, system);
  expect(await passwordFor(follow(path), "registry.example/x")).toBeUndefined();
  expect(api.queries).toEqual([]);
  const lax = await kubeconfig({ token: "t0ken" }, { ...system, "insecure-skip-tls-verify": true });
  expect(await passwordFor(follow(lax), "registry.example/x")).toBe("one");
});

test.each([
  ["no YAML", "a: [", "it is not YAML"],
  ["no context", "{}", "it has no current context"],
  ["a context that is not there", '{"current-context":"x"}', 'it has no context "x"'],
])("readKubeconfig() refuses %s, without quoting it", async (_, text, state) => {
  const path = `${directory}/bad`;
  await writeFile(path, text);
  expect(() => readKubeconfig(path)).toThrow(`Cannot use "${path}": ${state}`);
});
