/**
 * `nydus-tool check`: everything that is wrong with a bootstrap, which is what a mount would refuse it for.
 *
 * @module
 */
import { readFileSync, statSync } from "node:fs";
import { corrupt, toNydusError } from "../lib/base/error.ts";
import { openBootstrap } from "../lib/rafs/bootstrap.ts";
import { checkBootstrap, type Violation } from "../lib/rafs/check.ts";
import type { Command } from "./command.ts";

/** What one array can hold, and more than ten million files need. */
const MAX_BOOTSTRAP = 2 ** 31 - 1;

export const check: Command = {
  name: "check",
  summary: "Verify every structure of a bootstrap",
  operands: "BOOTSTRAP",
  arity: [1, 1],
  flags: { json: { type: "boolean", help: "print one JSON object instead of lines" } },
  examples: [
    ["nydus-tool check image/image.boot", "says nothing and exits 0 when the kernel may mount it"],
    ["nydus-tool check --json image.boot | jq '.violations[].path'", "exits 11 when there is anything wrong"],
  ],
  async run(args, { print }) {
    const path = args.operand(0);
    const bytes = readBootstrap(path);
    const violations = checkBootstrap(bytes);
    // An image of a kind that we do not serve is not damaged: say which kind.
    if (violations.length > 0) assertSupported(bytes);
    if (args.boolean("json")) print(JSON.stringify({ bootstrap: path, violations }));
    else for (const violation of violations) print(line(violation));
    if (violations.length === 0) return;
    const problems = violations.length === 1 ? "1 problem" : `${violations.length} problems`;
    throw corrupt(`Cannot trust "${path}": ${problems}`);
  },
};

function readBootstrap(path: string): Uint8Array {
  try {
    const { size } = statSync(path);
    if (size > MAX_BOOTSTRAP) throw corrupt(`Cannot check "${path}": it has ${size} bytes`);
    return readFileSync(path);
  } catch (error) {
    throw toNydusError(error, `check "${path}"`);
  }
}

function assertSupported(bytes: Uint8Array): void {
  try {
    openBootstrap(bytes);
  } catch (error) {
    const known = toNydusError(error, "read the bootstrap");
    if (known.code === "unsupported") throw known;
  }
}

function line({ path, offset, message }: Violation): string {
  return `${path === "" ? "tables" : path}: ${message} (near byte ${offset})`;
}
