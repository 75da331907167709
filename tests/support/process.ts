/**
 * Child processes for tests: started with their output kept, awaited, stopped by pid and nothing else.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Give back a failure instead of throwing it. */
  readonly mayFail?: boolean;
}

/** Run a program to its end; a failure carries what it printed. */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Output> {
  const child = spawn(program, [...args], {
    stdio: ["pipe", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, ...options.env },
  });
  child.stdin.on("error", () => {}); // a program that exits early closes the pipe
  child.stdin.end(options.input ?? "");
  const chunks: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  child.stdout.on("data", (bytes: Buffer) => chunks.stdout.push(bytes));
  child.stderr.on("data", (bytes: Buffer) => chunks.stderr.push(bytes));
  const [code] = (await once(child, "close")) as [number | null];
  const output = {
    code: code ?? 255,
    stdout: Buffer.concat(chunks.stdout).toString(),
    stderr: Buffer.concat(chunks.stderr).toString(),
  };
  if (output.code === 0 || options.mayFail === true) return output;
  throw new Error(
    `Cannot run "${[program, ...args].join(" ")}": exit ${output.code}\n${output.stdout}${output.stderr}`,
  );
}

export interface Service extends AsyncDisposable {
  readonly pid: number;
  /** Undefined while it runs. */
  exitCode(): number | undefined;
  /** SIGTERM, then SIGKILL when it does not end in time. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Start a program that keeps running; its output goes to `log`. */
export function startService(
  program: string,
  args: readonly string[],
  options: { readonly log: string; readonly env?: Readonly<Record<string, string>>; readonly cwd?: string },
): Service {
  const child: ChildProcess = spawn(program, [...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const log = createWriteStream(options.log, { flags: "a" });
  child.stdout?.pipe(log, { end: false });
  child.stderr?.pipe(log, { end: false });
  let ended: number | undefined;
  const end = new Promise<void>((resolve) => {
    const over = (code: number): void => {
      ended ??= code;
      resolve();
    };
    child.once("exit", (code) => over(code ?? 255));
    child.once("error", () => over(127));
  });
  const stop = async (signal: NodeJS.Signals = "SIGTERM"): Promise<void> => {
    if (ended === undefined) {
      child.kill(signal);
      const late = new AbortController();
      const kill = sleep(10_000, undefined, { signal: late.signal }).then(
        () => void child.kill("SIGKILL"),
        () => {},
      );
      await end;
      late.abort();
      await kill;
    }
    log.end();
  };
  return { pid: child.pid ?? -1, exitCode: () => ended, stop, [Symbol.asyncDispose]: () => stop() };
}

/** Poll until `ready` answers true; fails at once when the service ends, or after `seconds`. */
export async function waitFor(
  what: string,
  ready: () => boolean | Promise<boolean>,
  options: { readonly seconds?: number; readonly service?: Service } = {},
): Promise<void> {
  const deadline = performance.now() + (options.seconds ?? 30) * 1000;
  while (!(await ready())) {
    const exit = options.service?.exitCode();
    if (exit !== undefined) throw new Error(`Cannot wait for ${what}: the process ended with ${exit}`);
    if (performance.now() > deadline) throw new Error(`Cannot wait for ${what}: it took too long`);
    await sleep(20);
  }
}
