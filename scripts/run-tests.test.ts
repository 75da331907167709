import { expect, test } from "vitest";
import { add, countReport, countTwice, failedFiles, type Report } from "./run-tests.ts";

function reportOf(...tests: readonly (readonly [name: string, status: string])[]): Report {
  const assertionResults = tests.map(([fullName, status]) => ({ fullName, status }));
  return { testResults: [{ name: "a.test.ts", status: "passed", assertionResults }] };
}

test("countReport() counts passed and failed tests", () => {
  const report = reportOf(["one", "passed"], ["two", "failed"], ["three", "passed"]);
  expect(countReport(report, true)).toEqual({ passed: 2, failed: 1, remarks: ["FAILED  a.test.ts: two"] });
});

test("countReport() counts a test that did not run as failed when nothing excuses it", () => {
  const report = reportOf(["one", "skipped"], ["golden two", "skipped"]);
  expect(countReport(report, true)).toMatchObject({ passed: 0, failed: 2 });
  expect(countReport(report, false)).toMatchObject({ passed: 0, failed: 1 });
});

test("countReport() says in one line how many tests miss the golden data", () => {
  const report = reportOf(["golden one", "skipped"], ["Golden two", "pending"], ["three", "passed"]);
  const count = countReport(report, false);
  expect(count).toMatchObject({ passed: 1, failed: 0 });
  expect(count.remarks).toEqual([expect.stringMatching(/^SKIPPED 2 TESTS: /)]);
});

test("countReport() fails a golden test that ran and failed, golden data or not", () => {
  expect(countReport(reportOf(["golden one", "failed"]), false)).toMatchObject({ passed: 0, failed: 1 });
});

test("countReport() counts a file that cannot be loaded as one failure", () => {
  const broken = { name: "b.test.ts", status: "failed", message: "\nNo such module", assertionResults: [] };
  const count = countReport({ testResults: [...reportOf(["one", "passed"]).testResults, broken] }, true);
  expect(count).toEqual({ passed: 1, failed: 1, remarks: ["FAILED  b.test.ts: No such module"] });
});

test("add() sums counts and keeps remarks in order", () => {
  const sum = add({ passed: 1, failed: 2, remarks: ["a"] }, { passed: 3, failed: 4, remarks: ["b"] });
  expect(sum).toEqual({ passed: 4, failed: 6, remarks: ["a", "b"] });
});

test("countTwice() takes the second word on a file, and names what passed only then", () => {
  const [other] = reportOf(["four", "passed"]).testResults.map((file) => ({ ...file, name: "b.test.ts" }));
  const bad = reportOf(["one", "failed"], ["two", "failed"], ["three", "passed"]);
  const first = { testResults: [...bad.testResults, ...(other === undefined ? [] : [other])] };
  expect(failedFiles(first, true)).toEqual(["a.test.ts"]);
  const second = reportOf(["one", "passed"], ["two", "failed"], ["three", "passed"]);
  expect(countTwice(first, second, true)).toEqual({
    passed: 3,
    failed: 1,
    remarks: ["FAILED  a.test.ts: two", "UNSTEADY a.test.ts: one"],
  });
});

test("countTwice() keeps a failure of a file that the second report lacks", () => {
  const first = reportOf(["one", "failed"]);
  expect(countTwice(first, { testResults: [] }, true)).toEqual(countReport(first, true));
});
