import { expect, test } from "vitest";
import { streamOf } from "../content/verified.ts";
import { parseRetryAfter, statusError } from "./status.ts";

const NOW = Date.parse("2026-01-01T00:00:00Z");

test.each([
  [null, undefined],
  ["0", 0],
  ["120", 120],
  ["Thu, 01 Jan 2026 00:00:30 GMT", 30],
  ["Wed, 31 Dec 2025 00:00:00 GMT", 0],
  ["soon", undefined],
  ["-1e99", undefined],
])("parseRetryAfter(%j) is %s", (header, seconds) => {
  expect(parseRetryAfter(header, NOW)).toBe(seconds);
});

test.each([
  ["a code", '{"errors":[{"code":"TOOMANYREQUESTS","message":"geheim"}]}', " (TOOMANYREQUESTS)"],
  ["no code", "{}", ""],
  ["no JSON", "<html>geheim</html>", ""],
  ["a code of many lines", '{"errors":[{"code":"A\\nB"}]}', ""],
  ["too much", `{"errors":[{"code":"X","message":"${"x".repeat(100_000)}"}]}`, ""],
])("statusError() repeats of an error body with %s only the code", async (_what, body, said) => {
  const response = {
    status: 429,
    headers: new Headers({ "retry-after": "3" }),
    body: streamOf(new TextEncoder().encode(body)),
    discard: async () => {},
  };
  expect(await statusError(response, 'read "x"')).toMatchObject({
    code: "unavailable",
    retryAfter: 3,
    message: `Cannot read "x": the registry answered 429${said}`,
  });
});
