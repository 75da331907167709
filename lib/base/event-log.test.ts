import { expect, test } from "vitest";
import { EventLog } from "./event-log.ts";
import { createLogger } from "./log.ts";

test("EventLog keeps the last hundred events and passes everything on", () => {
  const lines: string[] = [];
  const events = new EventLog(createLogger((line) => lines.push(line), "debug"));
  events.logger.debug("of no interest");
  const child = events.logger.with({ mount: "7" });
  for (let i = 0; i < 120; i++) child.warn("failed", { i });
  expect(lines).toHaveLength(121);
  expect(lines[1]).toContain("warn failed mount=7 i=0");
  expect(events.list()).toHaveLength(100);
  expect(events.list().at(-1)).toMatchObject({
    level: "warn",
    message: "failed",
    fields: { mount: "7", i: 119 },
  });
});
