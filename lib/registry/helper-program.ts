/**
 * Programs that give out credentials: docker's helpers, the kubelet's providers, plugins of kubeconfigs. They read one
 * question from standard input and answer on standard output.
 *
 * @module
 */
import { isCode, NydusError, toNydusError } from "../base/error.ts";

const TIMEOUT_MS = 60_000;
/** An answer is a few hundred bytes; one that never ends must not fill memory. */
const OUTPUT_LIMIT = 1024 * 1024;

export interface HelperCall {
  readonly input: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Completes "Cannot ...". */
  readonly action: string;
  readonly signal?: AbortSignal;
}

/** What it prints to standard error is dropped: it may hold secrets. */
export async function runHelper(
  words: readonly string[],
  { input, env, action, signal }: HelperCall,
): Promise<{ readonly code: number; readonly output: string }> {
  try {
    const child = Bun.spawn([...words], {
      stdin: new TextEncoder().encode(input),
      stdout: "pipe",
      stderr: "ignore",
      env: { ...env },
      timeout: TIMEOUT_MS,
      maxBuffer: OUTPUT_LIMIT,
      ...(signal === undefined ? {} : { signal }),
    });
    const answer = { output: await new Response(child.stdout).text(), code: await child.exited };
    signal?.throwIfAborted();
    return answer;
  } catch (error) {
    const known = toNydusError(error, action);
    throw isCode(known, "not_found")
      ? new NydusError("denied", `Cannot ${action}: it is not installed`, { cause: error })
      : known;
  }
}
