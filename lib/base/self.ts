/**
 * How to start this program again: the compiled binary, or Bun with the entry point when run from source.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

export function selfCommand(): readonly string[] {
  if (import.meta.url.startsWith("file:///$bunfs/")) return [process.execPath];
  return [process.execPath, fileURLToPath(new URL("../../cmd/main.ts", import.meta.url))];
}
