/**
 * The entry point: the table of verbs, errors to messages, errors to exit codes.
 *
 * @module
 */
import { MEANINGS, NydusError, toNydusError } from "../lib/base/error.ts";
import { createLogger, type Level } from "../lib/base/log.ts";
import { nameProcess } from "../lib/base/self.ts";
import type { Command, Context } from "./command.ts";
import { helpText, parseCommandLine, SilentExit } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { terminalProgress } from "./progress.ts";
import { VERSION } from "./version.ts";

function usage(): string {
  const shown = COMMANDS.filter((command) => command.hidden !== true);
  const width = Math.max(...shown.map((command) => command.name.length)) + 2;
  return [
    "nydus-tool: container images that start before they are downloaded",
    "",
    "usage: nydus-tool VERB [flags] [operands]",
    "",
    ...shown.map((command) => `  ${command.name.padEnd(width)}${command.summary}`),
    "",
    "Each verb has --help with examples. NYDUS_LOG=debug|info|warn|error sets how much is logged (warn).",
    "",
    "exit codes: 0 done",
    ...Object.values(MEANINGS).map((m) => `  ${String(m.exit).padStart(11)} ${m.summary}`),
  ].join("\n");
}

function find(argv: readonly string[]): { command: Command; rest: readonly string[] } | undefined {
  for (const words of [2, 1]) {
    const command = COMMANDS.find((c) => c.name === argv.slice(0, words).join(" "));
    if (command !== undefined) return { command, rest: argv.slice(words) };
  }
  return undefined;
}

/** A second Ctrl-C ends the program at once; the first lets the verb clean up. */
function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(MEANINGS.cancelled.exit);
    controller.abort(new NydusError("cancelled", "Cannot go on: interrupted"));
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return controller.signal;
}

async function main(argv: readonly string[]): Promise<number> {
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const first = argv[0];
  if (first === undefined || first === "help" || first === "--help" || first === "-h") {
    print(usage());
    return first === undefined ? MEANINGS.usage.exit : 0;
  }
  if (first === "--version" || first === "version") {
    print(`nydus-tool ${VERSION}`);
    return 0;
  }
  const found = find(argv);
  if (found === undefined) {
    const group = COMMANDS.filter((c) => c.name.startsWith(`${first} `)).map((c) => c.name);
    const hint = group.length > 0 ? `say ${group.join(" or ")}` : "see nydus-tool --help";
    throw new NydusError("usage", `Cannot run "${argv.slice(0, 2).join(" ")}": no such verb; ${hint}`);
  }
  if (found.rest.some((word) => word === "--help" || word === "-h")) {
    print(helpText(found.command));
    return 0;
  }
  nameProcess();
  const args = parseCommandLine(found.command, found.rest);
  const level = (process.env.NYDUS_LOG ?? "warn") as Level;
  const context: Context = {
    log: createLogger((line) => process.stderr.write(line), level),
    signal: interruptSignal(),
    progress: () => terminalProgress(process.stderr),
    print,
    env: process.env,
  };
  await found.command.run(args, context);
  return 0;
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  if (error instanceof SilentExit) process.exit(error.exitCode);
  const known = toNydusError(error, "go on");
  process.stderr.write(`nydus-tool: ${known.message}\n`);
  if (known.code === "internal" && process.env.NYDUS_LOG === "debug")
    process.stderr.write(`${known.stack}\n`);
  process.exit(MEANINGS[known.code].exit);
}
