/**
 * Lists of paths in a file or on standard input: one a line, or the JSON that the Nydus project's tools take.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { type ByteString, byteString, byteStringOf } from "../lib/base/byte-string.ts";
import { NydusError, toNydusError } from "../lib/base/error.ts";

/** More than all paths of any image. */
const MAX_LIST = 2 ** 30;

/**
 * Lines are bytes, as names are; empty ones and those that begin with "#" mean nothing.
 *
 * @param file "-" is standard input. @throws not_found, denied, usage
 */
export function readPathList(file: string): ByteString[] {
  const bytes = readAll(file);
  if (bytes[0] === 0x7b) return fromJson(bytes, file);
  return byteString(bytes)
    .split("\n")
    .map((line) => line.replace(/\r$/, "").trim() as ByteString)
    .filter((line) => line !== "" && !line.startsWith("#"));
}

function readAll(file: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file === "-" ? 0 : file);
  } catch (error) {
    throw toNydusError(error, `read "${file}"`);
  }
  if (bytes.byteLength <= MAX_LIST) return bytes;
  throw new NydusError("usage", `Cannot use list "${file}": it has ${bytes.byteLength} bytes`);
}

/** `{"version": "v1", "files": [{"path": "/a"}]}`; ranges inside files are of no use to a table of inodes. */
function fromJson(bytes: Uint8Array, file: string): ByteString[] {
  const bad = (state: string): NydusError => new NydusError("usage", `Cannot use list "${file}": ${state}`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    throw bad("it begins like JSON and is none");
  }
  const { files } = value as { files?: unknown };
  if (!Array.isArray(files)) throw bad('it has no list "files"');
  return files.map((entry: unknown) => {
    const path = typeof entry === "string" ? entry : (entry as { path?: unknown } | null)?.path;
    if (typeof path !== "string") throw bad('an entry of "files" has no path');
    return byteStringOf(path);
  });
}
