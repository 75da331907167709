import { expect, test } from "vitest";
import { isSystemdService } from "./systemd.ts";

test("isSystemdService() is true for the process that systemd started, not for everything below a service", () => {
  expect(isSystemdService({ SYSTEMD_EXEC_PID: "7" }, 7)).toBe(true);
  expect(isSystemdService({ NOTIFY_SOCKET: "/run/systemd/notify" }, 8)).toBe(true);
  expect(isSystemdService({ SYSTEMD_EXEC_PID: "7", INVOCATION_ID: "ab" }, 8)).toBe(false);
  expect(isSystemdService({}, 7)).toBe(false);
});
