/**
 * The controlling process of a mount server, as the server knows it.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";

export interface Controller {
  readonly pid: number;
  /** What follows the program on its command line when it must be started again; absent when others do that. */
  readonly words?: readonly string[];
}

/** Checks what came over the control socket or the command line. */
export function parseController(value: unknown): Controller {
  const { pid, words } = (typeof value === "object" && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid < 2)
    throw new NydusError("usage", "Cannot be controlled: the controlling process has no id");
  if (words === undefined) return { pid };
  if (!Array.isArray(words) || !words.every((word) => typeof word === "string"))
    throw new NydusError(
      "usage",
      `Cannot be controlled by process ${pid}: its command is not a list of words`,
    );
  return { pid, words };
}
