import { expect, test } from "vitest";
import { ownFinding } from "./check-service.ts";

test.each([
  ["ok", { LoadState: "loaded", ActiveState: "active", KillMode: "process" }, "is active"],
  ["warning", { LoadState: "not-found" }, "is not installed"],
  [
    "problem",
    { LoadState: "loaded", ActiveState: "active", KillMode: "control-group" },
    "a restart would end",
  ],
  [
    "problem",
    { LoadState: "loaded", ActiveState: "failed", KillMode: "process", Result: "exit-code" },
    "exit-code",
  ],
] as const)("ownFinding() is %s for %o", (state, properties, found) => {
  expect(ownFinding(properties)).toMatchObject({ state, found: expect.stringContaining(found) });
});
