/**
 * Paths inside images: byte strings, "/" between names, relative to the image's root.
 *
 * @module
 */
import { type ByteString, printable } from "../base/byte-string.ts";
import { corrupt } from "../base/error.ts";

/** Linux NAME_MAX and PATH_MAX (less its NUL): no runtime can unpack more. */
const MAX_NAME = 255;
export const MAX_PATH = 4095;

/** A path for messages, cut where it gets unreadable. */
export function shownPath(path: string): string {
  const text = printable(path.slice(0, 300) as ByteString);
  return path.length > 300 ? `${text}...` : text;
}

/**
 * The names of an archive path, none for the root itself. Leading "/" and "." components go away, and ".." takes its
 * predecessor back.
 *
 * @throws corrupt for a path that climbs out of the root, or that no file system can hold
 */
export function pathNames(path: ByteString): ByteString[] {
  const bad = (state: string): never => {
    throw corrupt(`Cannot use path "${shownPath(path)}": ${state}`);
  };
  if (path.length > MAX_PATH) bad(`it has ${path.length} bytes, more than ${MAX_PATH}`);
  if (path.includes("\0")) bad("it contains a NUL");
  const names: ByteString[] = [];
  for (const name of path.split("/") as ByteString[]) {
    if (name === "" || name === ".") continue;
    if (name.length > MAX_NAME) bad(`a name in it has ${name.length} bytes, more than ${MAX_NAME}`);
    if (name !== "..") names.push(name);
    else if (names.pop() === undefined) bad("it leads out of the image");
  }
  return names;
}
