/** JSON documents with a digest: parsed with care, written so that equal content gives equal bytes. @module */

import { corrupt } from "../base/error.ts";

/** @throws corrupt unless the bytes are UTF-8 text of one JSON object */
export function parseJsonObject(bytes: Uint8Array, where: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw corrupt(`Cannot read ${where}: it is not JSON`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw corrupt(`Cannot read ${where}: it is not a JSON object`);
  return value as Record<string, unknown>;
}

/**
 * Compact UTF-8. Keys keep the order in which the object was built, and undefined ones are left out, so the same code
 * on the same input gives the same digest.
 */
export function encodeJson(value: object): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** A string-to-string map, or undefined when the value is anything else. */
export function stringRecord(value: unknown): Readonly<Record<string, string>> | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  if (!Object.values(value).every((item) => typeof item === "string")) return undefined;
  return value as Record<string, string>;
}
