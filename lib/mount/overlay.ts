/**
 * A writable overlay on a mounted image, through mount(2).
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { errnoName, mount } from "../../ffi/libc.ts";
import { NydusError } from "../base/error.ts";

/** Commas end an option and colons a lower directory; overlayfs takes both behind a backslash. */
function escaped(path: string): string {
  return path.replaceAll(/[\\:,]/g, (character) => `\\${character}`);
}

/** @param directory gets `upper` and `work`; what was written there before is shown again */
export function mountOverlay(lower: string, directory: string, mountpoint: string): void {
  const [upper, work] = [join(directory, "upper"), join(directory, "work")];
  for (const path of [upper, work]) mkdirSync(path, { recursive: true });
  const data = `lowerdir=${escaped(lower)},upperdir=${escaped(upper)},workdir=${escaped(work)}`;
  const result = mount("overlay", mountpoint, "overlay", 0, data);
  if (result < 0) {
    throw new NydusError("internal", `Cannot mount an overlay on "${mountpoint}": ${errnoName(-result)}`);
  }
}
