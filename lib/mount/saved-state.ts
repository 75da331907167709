/**
 * What a successor must know to go on where a killed mount process stopped: kept in the run directory, written with
 * every change, without credentials.
 *
 * @module
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isCode, toNydusError } from "../base/error.ts";
import { type MountedDriver, type MountRequest, parseMountRequest } from "./mount-request.ts";

export interface SavedMount {
  readonly request: MountRequest;
  readonly driver: MountedDriver;
  readonly driverReason: string;
  readonly imageDirectory: string;
  /** The kernel's number of the mount there. */
  readonly mountId?: number | undefined;
  /** Numbers of the image's devices: their names, and what the kernel calls them. */
  readonly devices: readonly number[];
  readonly directBlobs: readonly string[];
  /** The FUSE session that serves it: its own, or the directory of devices; empty when the kernel needs none. */
  readonly session: string;
}

/** A mount whose file system nobody kept when the processes behind it died. */
export interface LostMount {
  readonly id: string;
  readonly reference: string;
  /** When that was noticed, ISO 8601. */
  readonly since: string;
  /** Mounts that show its files: the kernel's number (`mountId`) and the place. */
  readonly mounts: readonly { readonly id: number; readonly mountpoint: string }[];
}

export interface SavedState {
  /** The first number that no device and no session ever had. */
  readonly nextNumber: number;
  /** The session of the directory of devices, while there is one. */
  readonly devices?: string;
  readonly mounts: readonly SavedMount[];
  readonly lost: readonly LostMount[];
}

const NOTHING: SavedState = { nextNumber: 0, mounts: [], lost: [] };

function pathOf(runDirectory: string): string {
  return join(runDirectory, "state.json");
}

export function saveState(runDirectory: string, state: SavedState): void {
  const path = pathOf(runDirectory);
  writeFileSync(`${path}.new`, JSON.stringify(state, withoutCredentials), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function withoutCredentials(key: string, value: unknown): unknown {
  return key === "credentials" ? undefined : value;
}

/** The file is ours alone (mode 0600 in a private directory), so only its requests are checked again. */
export function loadState(runDirectory: string): SavedState {
  let text: string;
  try {
    text = readFileSync(pathOf(runDirectory), "utf8");
  } catch (error) {
    const known = toNydusError(error, "read the saved mounts");
    if (isCode(known, "not_found")) return NOTHING;
    throw known;
  }
  const state = JSON.parse(text) as Partial<SavedState> & Pick<SavedState, "mounts">;
  return {
    ...NOTHING,
    ...state,
    mounts: state.mounts.map((saved) => ({
      ...saved,
      request: parseMountRequest(saved.request),
      directBlobs: saved.directBlobs ?? [],
    })),
  };
}
