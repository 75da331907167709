/** A registry that accepts connections and never says anything. */
import { expect, test } from "vitest";
import { startSilentServer } from "../../tests/support/silent-server.ts";
import type { RegistryOptions } from "./client.ts";
import { RegistryStore } from "./store.ts";

const open = (host: string, options: RegistryOptions): RegistryStore =>
  new RegistryStore(`${host}/a`, { credentials: async () => undefined, ...options });

test("RegistryStore.resolve() gives up when nothing came for the time limit, and says what to do", async () => {
  await using server = await startSilentServer();
  const failure = open(server.host, { answerTimeout: 50, readTimeout: 0.15 }).resolve("1");
  await expect(failure).rejects.toMatchObject({ code: "unavailable", outOfTime: true });
  await expect(failure).rejects.toThrow(/no answer from .* for 0\.05 s .*; check that it is up/);
  // Attempts were left.
  expect(server.connections).toBeLessThanOrEqual(3);
});

test("RegistryStore.resolve() waits for one answer no longer than the time limit", async () => {
  await using server = await startSilentServer();
  const failure = open(server.host, { readTimeout: 0.1 }).resolve("1");
  await expect(failure).rejects.toThrow(/no answer from .* for 0\.1 s.*; check/);
  // A timer may ring a little early.
  expect(server.connections).toBeLessThanOrEqual(2);
});
