/** Bootstraps that lie on disk as files. @module */

import { readFileSync, statSync } from "node:fs";
import { corrupt, toNydusError } from "../base/error.ts";

/** What one array can hold, and more than ten million files need. */
const MAX_BOOTSTRAP = 2 ** 31 - 1;

export function readBootstrapFile(path: string): Uint8Array {
  try {
    const { size } = statSync(path);
    if (size > MAX_BOOTSTRAP) throw corrupt(`Cannot read bootstrap "${path}": it has ${size} bytes`);
    return readFileSync(path);
  } catch (error) {
    throw toNydusError(error, `read bootstrap "${path}"`);
  }
}
