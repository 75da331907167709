/**
 * What a verb is: options plus a function. Flags are parsed here and nowhere below; `run` is what tests call.
 *
 * @module
 */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { NydusError } from "../lib/base/error.ts";
import type { Logger } from "../lib/base/log.ts";
import type { Progress } from "../lib/base/progress.ts";

/** Ends the program with this exit code and no message: whoever failed has said why already. */
export class SilentExit extends Error {
  override readonly name = "SilentExit";
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}

/** Everything a verb may touch that is not its own business. */
export interface Context {
  readonly log: Logger;
  /** Fires on Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  progress(): Progress;
  /** Standard output, a line at a time. */
  print(line: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface Flag {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: boolean;
  /** Shown as `--name VALUE`. */
  readonly value?: string;
  readonly help: string;
}

export interface Command {
  /** Words as typed: "convert", "snapshotter serve". */
  readonly name: string;
  readonly summary: string;
  /** Operands as shown in the usage line: "SOURCE TARGET". */
  readonly operands: string;
  /** At least and at most this many operands. */
  readonly arity: readonly [number, number];
  readonly flags: Readonly<Record<string, Flag>>;
  /** Whole command lines with a remark. */
  readonly examples: readonly (readonly [command: string, remark: string])[];
  /** Hidden verbs are for the program's own processes. */
  readonly hidden?: boolean;
  run(args: Arguments, context: Context): Promise<void>;
}

export class Arguments {
  readonly operands: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(operands: readonly string[], values: Readonly<Record<string, unknown>>) {
    this.operands = operands;
    this.#values = values;
  }

  operand(index: number): string {
    return this.operands[index] ?? "";
  }

  string(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === "string" ? value : undefined;
  }

  strings(name: string): readonly string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.filter((v) => typeof v === "string") : [];
  }

  boolean(name: string): boolean {
    return this.#values[name] === true;
  }

  /** One of the allowed words, or the default. */
  choice<T extends string>(name: string, allowed: readonly T[], fallback: T): T {
    const value = this.string(name);
    if (value === undefined) return fallback;
    const found = allowed.find((word) => word === value);
    if (found !== undefined) return found;
    throw new NydusError("usage", `Cannot use --${name} "${value}": it must be one of ${allowed.join(", ")}`);
  }

  /** A positive whole number. */
  count(name: string): number | undefined {
    const text = this.string(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (Number.isSafeInteger(value) && value > 0) return value;
    throw new NydusError("usage", `Cannot use --${name} "${text}": it is not a positive number`);
  }

  /** Bytes: 4096, 64K, 1M, 2GiB, 0x100000. */
  size(name: string): number | undefined;
  size(name: string, fallback: number): number;
  size(name: string, fallback?: number): number | undefined {
    const value = this.string(name);
    return value === undefined ? fallback : parseSize(value, `--${name}`);
  }

  /** Milliseconds: 90s, 10m, 24h, 7d. */
  duration(name: string, fallback: number): number {
    const value = this.string(name);
    return value === undefined ? fallback : parseDuration(value, `--${name}`);
  }
}

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Milliseconds. */
function parseDuration(text: string, what: string): number {
  const [, count, unit = ""] = /^(\d+)([smhd])$/.exec(text.trim()) ?? [];
  const ms = Number(count) * (SECONDS[unit] ?? Number.NaN) * 1000;
  if (Number.isSafeInteger(ms)) return ms;
  throw new NydusError("usage", `Cannot use ${what} "${text}": it is not a time such as 90s, 10m or 24h`);
}

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

export function parseSize(text: string, what: string): number {
  const match = /^(0x[0-9a-f]+|\d+)\s*([kmgt]?)(i?b)?$/i.exec(text.trim());
  const size = Number(match?.[1]) * (UNITS[match?.[2]?.toLowerCase() ?? ""] ?? Number.NaN);
  if (Number.isSafeInteger(size)) return size;
  throw new NydusError("usage", `Cannot use ${what} "${text}": it is not a size such as 4096, 64K or 1MiB`);
}

export function parseCommandLine(command: Command, argv: readonly string[]): Arguments {
  const options: ParseArgsConfig["options"] = {};
  for (const [name, flag] of Object.entries(command.flags)) {
    options[name] = {
      type: flag.type,
      ...(flag.short ? { short: flag.short } : {}),
      ...(flag.multiple ? { multiple: true } : {}),
    };
  }
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args: [...argv], options, allowPositionals: true, strict: true });
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split(". ")[0] ?? "") : String(error);
    throw new NydusError(
      "usage",
      `Cannot run "${command.name}": ${reason}; see nydus-tool ${command.name} --help`,
    );
  }
  const [least, most] = command.arity;
  const count = parsed.positionals.length;
  if (count < least || count > most) {
    const wanted = command.operands === "" ? "no operands" : command.operands;
    throw new NydusError(
      "usage",
      `Cannot run "${command.name}": it takes ${wanted}; see nydus-tool ${command.name} --help`,
    );
  }
  return new Arguments(parsed.positionals, parsed.values);
}

export function helpText(command: Command): string {
  const flags = Object.entries({
    ...command.flags,
    help: { type: "boolean", short: "h", help: "show this" } as Flag,
  });
  const names = flags.map(([name, flag]) => {
    const value = flag.type === "string" ? ` ${flag.value ?? "VALUE"}` : "";
    return `${flag.short ? `-${flag.short}, ` : "    "}--${name}${value}`;
  });
  const width = Math.max(...names.map((name) => name.length)) + 2;
  const lines = [
    command.summary,
    "",
    `usage: nydus-tool ${command.name} [flags]${command.operands === "" ? "" : ` ${command.operands}`}`,
    "",
    "flags:",
    ...flags.map(([, flag], i) => `  ${(names[i] ?? "").padEnd(width)}${flag.help}`),
  ];
  if (command.examples.length > 0) {
    lines.push(
      "",
      "examples:",
      ...command.examples.flatMap(([line, remark]) => [`  # ${remark}`, `  ${line}`]),
    );
  }
  return lines.join("\n");
}
