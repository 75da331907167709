/**
 * Runs verbs inside the test's own process.
 *
 * @module
 */
import { quietLogger } from "../lib/base/log.ts";
import { silent } from "../lib/base/progress.ts";
import { type Command, parseCommandLine } from "./command.ts";

export interface VerbResult {
  /** What it printed. */
  readonly lines: readonly string[];
  /** What it threw. */
  readonly error: unknown;
}

export async function runVerb(command: Command, argv: readonly string[]): Promise<VerbResult> {
  const lines: string[] = [];
  const context = {
    log: quietLogger,
    signal: new AbortController().signal,
    progress: () => silent,
    print: (line: string) => void lines.push(line),
    env: {},
  };
  const run = async (): Promise<void> => command.run(parseCommandLine(command, argv), context);
  const error = await run().catch((caught: unknown) => caught);
  return { lines, error };
}
