import { expect, test } from "vitest";
import { parseRangeHeader } from "./range-header.ts";

test.each([
  ["bytes=0-9", 100, { start: 0, end: 10 }],
  ["bytes=10-", 100, { start: 10, end: 100 }],
  ["bytes=90-200", 100, { start: 90, end: 100 }],
  ["bytes=-10", 100, { start: 90, end: 100 }],
  ["bytes=-200", 100, { start: 0, end: 100 }],
  ["bytes=100-", 100, "unsatisfiable"],
  ["bytes=0-0", 0, "unsatisfiable"],
  ["bytes=-0", 100, "unsatisfiable"],
  ["bytes=9-0", 100, undefined],
  ["bytes=0-1,4-5", 100, undefined],
  ["bytes=-", 100, undefined],
  ["lines=0-1", 100, undefined],
  [undefined, 100, undefined],
])("parseRangeHeader(%s, %i)", (header, size, expected) => {
  expect(parseRangeHeader(header, size)).toEqual(expected);
});
