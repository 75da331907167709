/**
 * The entry point: the table of verbs, errors to messages, errors to exit codes.
 *
 * @module
 */
import { MEANINGS, NydusError, toNydusError } from "../lib/base/error.ts";
import { createLogger, type Level } from "../lib/base/log.ts";
import { nameProcess } from "../lib/base/self.ts";
import type { Context } from "./command.ts";
import { helpText, parseCommandLine, SilentExit } from "./command.ts";
import { VERBS, type Verb } from "./commands.ts";
import { terminalProgress } from "./progress.ts";
import { VERSION } from "./version.ts";

function usage(): string {
  const shown = VERBS.filter((verb) => verb.hidden !== true);
  const width = Math.max(...shown.map((verb) => verb.name.length)) + 2;
  return [
    "nydus-tool: container images that start before they are downloaded",
    "",
    "usage: nydus-tool VERB [flags] [operands]",
    "",
    ...shown.map((verb) => `  ${verb.name.padEnd(width)}${verb.summary}`),
    "",
    "Each verb has --help with examples. NYDUS_LOG=debug|info|warn|error sets how much is logged (warn).",
    "",
    "exit codes: 0 done",
    ...Object.values(MEANINGS).map((m) => `  ${String(m.exit).padStart(11)} ${m.summary}`),
  ].join("\n");
}

function find(argv: readonly string[]): { verb: Verb; rest: readonly string[] } | undefined {
  for (const words of [2, 1]) {
    const verb = VERBS.find(({ name }) => name === argv.slice(0, words).join(" "));
    if (verb !== undefined) return { verb, rest: argv.slice(words) };
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
    const group = VERBS.filter((c) => c.name.startsWith(`${first} `)).map((c) => c.name);
    const hint = group.length > 0 ? `say ${group.join(" or ")}` : "see nydus-tool --help";
    throw new NydusError("usage", `Cannot run "${argv.slice(0, 2).join(" ")}": no such verb; ${hint}`);
  }
  const command = await found.verb.load();
  if (found.rest.some((word) => word === "--help" || word === "-h")) {
    print(helpText(command));
    return 0;
  }
  nameProcess();
  const args = parseCommandLine(command, found.rest);
  const level = (process.env.NYDUS_LOG ?? "warn") as Level;
  const context: Context = {
    log: createLogger((line) => process.stderr.write(line), level),
    signal: interruptSignal(),
    progress: () => terminalProgress(process.stderr),
    print,
    env: process.env,
  };
  await command.run(args, context);
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
