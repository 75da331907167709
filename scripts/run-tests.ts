/**
 * Runs every check and test and counts them; `scripts/test` calls it once the machine has what it needs.
 * The last line is `N passed, N failed`, and the exit code agrees with it.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Count {
  readonly passed: number;
  readonly failed: number;
  /** One line each: what failed and why, or what was left out. */
  readonly remarks: readonly string[];
}

interface TestResult {
  readonly fullName: string;
  readonly status: string;
}

interface FileResult {
  readonly name: string;
  readonly status: string;
  readonly message?: string;
  readonly assertionResults: readonly TestResult[];
}

/** What is read of vitest's JSON report. */
export interface Report {
  readonly testResults: readonly FileResult[];
}

/** Data of the project's surroundings that a lone clone does not have. */
const GOLDEN = "../shared/golden";
/** Tests that need it have this word in their name; only they may be left out. */
const GOLDEN_WORD = "golden";

/**
 * Counts a report. A test that did not run counts as failed, except one that needs golden data where there is none.
 * A file that could not be loaded has no tests to fail, so it counts as one failure itself.
 */
export function countReport(report: Report, hasGolden: boolean): Count {
  const remarks: string[] = [];
  let passed = 0;
  let failed = 0;
  let leftOut = 0;
  for (const file of report.testResults) {
    const before = failed;
    for (const test of file.assertionResults) {
      const mayMiss = !hasGolden && test.fullName.toLowerCase().includes(GOLDEN_WORD);
      if (test.status === "passed") passed++;
      else if (test.status !== "failed" && mayMiss) leftOut++;
      else {
        failed++;
        remarks.push(
          `FAILED  ${file.name}: ${test.fullName}${test.status === "failed" ? "" : ` (${test.status})`}`,
        );
      }
    }
    if (file.status === "failed" && failed === before) {
      failed++;
      remarks.push(`FAILED  ${file.name}: ${firstLine(file.message) ?? "the file could not be run"}`);
    }
  }
  if (leftOut > 0)
    remarks.push(`SKIPPED ${leftOut} TESTS: they need the reference's own images, and ${GOLDEN} is not here`);
  return { passed, failed, remarks };
}

/** The files with a failure, in order. */
export function failedFiles(report: Report, hasGolden: boolean): string[] {
  return report.testResults
    .filter((file) => countReport({ testResults: [file] }, hasGolden).failed > 0)
    .map(({ name }) => name);
}

/** The counts of the second report for the files that are in it, and a remark for each test that passed only there. */
export function countTwice(first: Report, second: Report, hasGolden: boolean): Count {
  const repeated = new Map(second.testResults.map((file) => [file.name, file]));
  const final = first.testResults.map((file) => repeated.get(file.name) ?? file);
  const count = countReport({ testResults: final }, hasGolden);
  const still = new Set(count.remarks);
  const unsteady = countReport(first, hasGolden).remarks.filter(
    (line) => line.startsWith("FAILED") && !still.has(line),
  );
  return {
    ...count,
    remarks: [...count.remarks, ...unsteady.map((line) => line.replace("FAILED  ", "UNSTEADY "))],
  };
}

function firstLine(text: string | undefined): string | undefined {
  return text?.split("\n").find((line) => line.trim() !== "");
}

export function add(a: Count, b: Count): Count {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, remarks: [...a.remarks, ...b.remarks] };
}

async function run(command: readonly string[]): Promise<number> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "inherit", stderr: "inherit" });
  return child.exited;
}

/** A check passes or fails as one. */
async function check(title: string, command: readonly string[]): Promise<Count> {
  process.stdout.write(`\n== ${title}: ${command.join(" ")}\n`);
  const code = await run(command);
  if (code === 0) return { passed: 1, failed: 0, remarks: [] };
  return { passed: 0, failed: 1, remarks: [`FAILED  ${title}: exit code ${code}`] };
}

/** What one run of vitest found, and its exit code. */
async function vitest(
  filters: readonly string[],
): Promise<{ readonly code: number; readonly report: Report }> {
  const directory = await mkdtemp(join(tmpdir(), "nydus-tool-report-"));
  try {
    const file = join(directory, "report.json");
    const vitest = ["node_modules/.bin/bun", "--bun", "node_modules/.bin/vitest", "run", "--pool=threads"];
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
    const code = await run([...vitest, ...reporters, ...filters]);
    if (!existsSync(file)) return { code, report: { testResults: [] } };
    return { code, report: JSON.parse(await readFile(file, "utf8")) as Report };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** More files than this that fail are no coincidence. */
const FILES_TO_REPEAT = 3;

/**
 * Few failures among thousands of tests may be the machine's: those files run once more, by themselves. What fails twice has
 * failed; what passes then is named as unsteady, since it is to be mended all the same.
 */
async function tests(filters: readonly string[]): Promise<Count> {
  process.stdout.write("\n== tests\n");
  const hasGolden = existsSync(GOLDEN);
  const first = await vitest(filters);
  const failed = failedFiles(first.report, hasGolden);
  if (failed.length === 0 || failed.length > FILES_TO_REPEAT)
    return withCode(countReport(first.report, hasGolden), first.code);
  process.stdout.write(`\n== again, what failed: ${failed.join(" ")}\n`);
  const second = await vitest(failed);
  return withCode(countTwice(first.report, second.report, hasGolden), second.code);
}

/** vitest also fails for what no test did, such as a rejection that nobody caught. */
function withCode(count: Count, code: number): Count {
  if (code === 0 || count.failed > 0) return count;
  return add(count, { passed: 0, failed: 1, remarks: [`FAILED  vitest: exit code ${code}`] });
}

async function main(filters: readonly string[]): Promise<number> {
  const started = performance.now();
  const bin = "node_modules/.bin";
  const shell = [
    "scripts/build",
    "scripts/test",
    "scripts/soak",
    "scripts/node-modules",
    "scripts/debian-packages",
    ".ci/run",
  ];
  let count = await check("formatter and linter", [`${bin}/biome`, "ci", "--colors=off", "."]);
  count = add(count, await check("shell syntax", ["bash", "-n", ...shell]));
  count = add(count, await check("types", [`${bin}/tsc`, "--noEmit"]));
  count = add(count, await check("import rule", [`${bin}/bun`, "scripts/check-imports.ts"]));
  count = add(count, await check("build", ["scripts/build"]));
  count = add(count, await tests(filters));
  const minutes = (performance.now() - started) / 60_000;
  process.stdout.write(`\n${count.remarks.map((line) => `${line}\n`).join("")}`);
  process.stdout.write(
    `took ${minutes.toFixed(1)} minutes\n${count.passed} passed, ${count.failed} failed\n`,
  );
  return count.failed > 0 || count.passed === 0 ? 1 : 0;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
