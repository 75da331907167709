/** What a look at the node found, and what to do about it. @module */

import { toNydusError } from "../base/error.ts";

export interface Finding {
  readonly subject: string;
  /** "warning": works, but not as well as it could. "problem": something will not work. */
  readonly state: "ok" | "warning" | "problem";
  readonly found: string;
  /** What to do; with every warning and problem. */
  readonly advice?: string;
}

export function well(subject: string, found: string): Finding {
  return { subject, state: "ok", found };
}

export function warning(subject: string, found: string, advice: string): Finding {
  return { subject, state: "warning", found, advice };
}

export function problem(subject: string, found: string, advice: string): Finding {
  return { subject, state: "problem", found, advice };
}

/** What an error says, without what was asked for. */
export function stateOf(error: unknown): string {
  const { message } = toNydusError(error, "look");
  return message.replace(/^Cannot [^:]*"[^"]*"[^:]*: /, "");
}
