/** Asking for credentials across a socket, with and without somebody who answers. */
import { mkdtemp, rm, stat } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLogger, quietLogger } from "../base/log.ts";
import type { CredentialSource } from "../registry/credentials.ts";
import { credentialChain } from "./chain.ts";
import { askedCredentials, credentialSocket, serveCredentials } from "./server.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp("/tmp/nt-cred-");
});
afterEach(() => rm(directory, { recursive: true }));

const login = (password: string) => ({ username: "me", password });
const NOBODY: CredentialSource = async () => undefined;

test("askedCredentials() passes on what was asked, and keeps the last answer while nobody answers", async () => {
  const socket = credentialSocket(directory);
  const seen: unknown[] = [];
  let password = "one";
  const source: CredentialSource = async (registry, { repository, refused }) => {
    seen.push([registry, repository, refused]);
    return login(password);
  };
  const ask = askedCredentials(socket, async () => login("fallback"));
  expect(await ask("r", { repository: "a" })).toEqual(login("fallback"));
  {
    await using _server = serveCredentials(socket, source);
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
    expect(await ask("r", { repository: "a", refused: [login("old")] })).toEqual(login("one"));
    expect(seen).toEqual([["r", "a", [login("old")]]]);
    password = "two";
    expect(await ask("r", { repository: "a" })).toEqual(login("two"));
  }
  expect(await ask("r", { repository: "a" })).toEqual(login("two"));
  expect(await ask("r", { repository: "a", refused: [login("two")] })).toEqual(login("fallback"));
  await using _again = serveCredentials(socket, NOBODY);
  expect(await ask("r", { repository: "a" })).toBeUndefined();
});

test("serveCredentials() tells a failure to nobody", async () => {
  const socket = credentialSocket(directory);
  await using _server = serveCredentials(socket, async () => {
    throw new Error("geheim");
  });
  const body = JSON.stringify({ registry: "r", repository: "a" });
  const response = await fetch("http://x/credentials", { method: "POST", unix: socket, body });
  expect([response.status, await response.text()]).toEqual([500, "failed"]);
});

test("credentialChain() takes the first that is not refused, and passes over what fails", async () => {
  const lines: string[] = [];
  const failing: CredentialSource = async () => {
    throw new Error("it is broken");
  };
  const chain = credentialChain(
    [
      { name: "one", source: async () => login("one") },
      { name: "broken", source: failing },
      { name: "none", source: NOBODY },
      { name: "two", source: async () => login("two") },
    ],
    createLogger((line) => lines.push(line), "debug"),
  );
  expect(await chain("r", {})).toEqual(login("one"));
  expect(lines).toEqual([]);
  expect(await chain("r", { refused: [login("one")] })).toEqual(login("two"));
  expect(lines.join("")).toContain("source=broken");
  expect(await chain("r", { refused: [login("one"), login("two")] })).toBeUndefined();
  expect(await credentialChain([], quietLogger)("r", {})).toBeUndefined();
});
