/**
 * Puts the snapshotter on a node: the program, its configuration, its systemd unit, and what containerd must know. What
 * was put is noted, so that `uninstall` takes away just that, and nothing that somebody has changed since.
 *
 * @module
 */
import { join } from "node:path";
import { digestOf } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { type ContainerdSettings, containerdTables } from "./containerd-settings.ts";
import { contentOf, type FileChange, kept, removal, written } from "./file-change.ts";
import { UNIT, unitText } from "./systemd-unit.ts";
import { parse, withoutMarks, withTables } from "./toml-lines.ts";

/** Where things go on a node; below `prefix` when another root directory is filled. */
export interface Places {
  readonly prefix: string;
  readonly binary: string;
  /** Configuration of `snapshotter serve`. */
  readonly config: string;
  readonly containerdConfig: string;
}

export interface InstallRequest {
  readonly places: Places;
  /** The program that is to be copied. */
  readonly program: Uint8Array;
  readonly settings: Omit<ContainerdSettings, "program">;
  /** Text of the configuration if there is none yet; absent when somebody else's file is used. */
  readonly config?: string;
}

const UNIT_PATH = `/etc/systemd/system/${UNIT}`;
/** Digests of the files that were put, by path. */
const RECORD = "/etc/nydus-tool/installed.json";

export function planInstall(request: InstallRequest): readonly FileChange[] {
  const { places, program, settings } = request;
  const at = (path: string): string => join(places.prefix, path);
  const unit = Buffer.from(unitText({ binary: places.binary, words: ["--config", places.config] }));
  const ours = ownConfig(at(places.config), request, readRecord(at(RECORD))[places.config]);
  const record = {
    [places.binary]: digestOf(program),
    ...(ours === undefined ? {} : { [places.config]: digestOf(ours) }),
    [UNIT_PATH]: digestOf(unit),
  };
  return [
    written(at(places.binary), program, { mode: 0o755 }),
    ours === undefined
      ? kept(at(places.config), "it is yours")
      : written(at(places.config), ours, { mode: 0o600 }),
    written(at(UNIT_PATH), unit),
    containerdChange(at(places.containerdConfig), settings, places.binary),
    written(at(RECORD), Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`)),
  ];
}

/** What our configuration file is to say; undefined when the file is somebody else's, or was changed. */
function ownConfig(
  path: string,
  { config }: InstallRequest,
  recorded: string | undefined,
): Uint8Array | undefined {
  if (config === undefined) return undefined;
  const there = contentOf(path);
  return there === undefined || digestOf(there) === recorded ? Buffer.from(config) : undefined;
}

function containerdChange(
  path: string,
  settings: Omit<ContainerdSettings, "program">,
  program: string,
): FileChange {
  return changedToml(path, (text) => {
    // From what it was without us: settings that are not asked for any more go.
    const bare = withoutMarks(text);
    return withTables(bare, containerdTables(parse(bare), { ...settings, program }));
  });
}

export function planUninstall(places: Pick<Places, "prefix" | "containerdConfig">): readonly FileChange[] {
  const at = (path: string): string => join(places.prefix, path);
  const record = readRecord(at(RECORD));
  const files = Object.entries(record).flatMap(([path, digest]) => {
    const there = contentOf(at(path));
    if (there === undefined) return [];
    return digestOf(there) === digest
      ? [removal(at(path))]
      : [kept(at(path), "it was changed since; remove it yourself")];
  });
  const containerd = at(places.containerdConfig);
  return [
    ...(contentOf(containerd) === undefined ? [] : [changedToml(containerd, withoutMarks)]),
    ...files,
    ...(contentOf(at(RECORD)) === undefined ? [] : [removal(at(RECORD))]),
  ];
}

function changedToml(path: string, change: (text: string) => string): FileChange {
  const before = Buffer.from(contentOf(path) ?? "").toString();
  const after = changedText(path, before, change);
  if (after === before) return kept(path, "as it should be");
  if (after === "") return removal(path, "nothing else is in it");
  return written(path, Buffer.from(after), { detail: difference(before, after) });
}

function changedText(path: string, before: string, change: (text: string) => string): string {
  try {
    return change(before);
  } catch (error) {
    if (!(error instanceof NydusError)) throw error;
    throw new NydusError(error.code, error.message.replace("the file", `"${path}"`), { cause: error });
  }
}

/** Lines that come and go. */
function difference(before: string, after: string): string {
  const [old, now] = [before.split("\n"), after.split("\n")];
  return [
    ...old.filter((line) => !now.includes(line)).map((line) => `- ${line.trim()}`),
    ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line.trim()}`),
  ].join("\n");
}

function readRecord(path: string): Readonly<Record<string, string>> {
  const content = contentOf(path);
  if (content === undefined) return {};
  try {
    const parsed: unknown = JSON.parse(Buffer.from(content).toString());
    return typeof parsed === "object" && parsed !== null ? (parsed as Record<string, string>) : {};
  } catch (cause) {
    throw new NydusError("corrupt", `Cannot read "${path}": it is not JSON`, { cause });
  }
}
