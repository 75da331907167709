/**
 * `nydus-tool upgrade`: the processes behind this machine's mounts go on as another version of the program, while
 * everything stays mounted.
 *
 * @module
 */
import { realpathSync } from "node:fs";
import { resolve } from "node:path";
import { isCode, NydusError } from "../lib/base/error.ts";
import { entryPoint, selfPath } from "../lib/base/self.ts";
import type { ControlClient } from "../lib/mount/control-client.ts";
import { type Program, runsProgram } from "../lib/mount/program.ts";
import { clients } from "../lib/mount/run-directory.ts";
import type { Command } from "./command.ts";
import { RUN_ROOT_FLAG, runRootOf } from "./run-root.ts";

/** One start of the new version, and one of the old one if need be, with what lies between. */
const TIMEOUT_MS = 60_000;
const POLL_MS = 50;
/** A program that says which version it is needs milliseconds. */
const VERSION_TIMEOUT_MS = 10_000;

interface Upgraded {
  readonly socket: string;
  /** "back": the new version did not come up, and the old one serves again. */
  readonly result: "upgraded" | "current" | "back";
}

export const upgrade: Command = {
  name: "upgrade",
  summary: "Go on with this version of the program, while everything stays mounted",
  operands: "",
  arity: [0, 0],
  flags: {
    binary: { type: "string", value: "FILE", help: "the version to go on with (this one)" },
    ...RUN_ROOT_FLAG,
    json: { type: "boolean", help: "as JSON" },
  },
  examples: [
    [
      "nydus-tool upgrade",
      "after a new nydus-tool was installed: snapshotter and mounts, readers only wait a moment",
    ],
    ["/tmp/nydus-tool-next upgrade", "the same with another file; its path must stay"],
  ],
  async run(args, context) {
    const { print } = context;
    const binary = args.string("binary");
    const program: Program =
      binary === undefined ? [selfPath(), ...entryPoint()] : [realpathSync(resolve(binary))];
    const version = await versionOf(program);
    const results: Upgraded[] = [];
    for (const client of clients(runRootOf(args, context))) {
      const result = await upgradeOne(client, program);
      if (result !== undefined) results.push({ socket: client.socket, result });
    }
    if (args.boolean("json")) print(JSON.stringify({ version, processes: results }));
    else if (results.length === 0) print("nothing is running");
    else for (const { socket, result } of results) print(`${socket}: ${SAID[result]} ${version}`);
    const failed = results.filter(({ result }) => result === "back");
    if (failed.length > 0)
      throw new NydusError(
        "unavailable",
        `Cannot upgrade ${failed.length} of ${results.length}: "${program[0]}" did not come up, the old version serves again; see mount-server.log beside "${failed[0]?.socket}"`,
      );
  },
};

const SAID = { upgraded: "now", current: "already", back: "still the old version, not" } as const;

/** @throws unsupported when the file is no program of ours that works here */
async function versionOf(program: Program): Promise<string> {
  const refused = (cause?: unknown): NydusError =>
    new NydusError(
      "unsupported",
      `Cannot upgrade to "${program[0]}": it does not say its version as nydus-tool does`,
      {
        cause,
      },
    );
  try {
    const child = Bun.spawn([...program, "version"], {
      stdio: ["ignore", "pipe", "ignore"],
      timeout: VERSION_TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    const text = await new Response(child.stdout).text();
    if ((await child.exited) === 0 && text.startsWith("nydus-tool ")) return text.trim();
  } catch (error) {
    throw refused(error);
  }
  throw refused();
}

/** @returns undefined when nobody answers */
async function upgradeOne(client: ControlClient, program: Program): Promise<Upgraded["result"] | undefined> {
  const [server, controller] = await Promise.all([pidOf(client), orNone(client.controller())]);
  if (server === undefined) return undefined;
  if (runsProgram(server, program) && (controller === undefined || runsProgram(controller, program)))
    return "current";
  await client.upgrade(program);
  for (let waited = 0; waited < TIMEOUT_MS; waited += POLL_MS) {
    await Bun.sleep(POLL_MS);
    const now = await pidOf(client);
    if (now === undefined || now === server) continue;
    if (!runsProgram(now, program)) return "back";
    const controls = await orNone(client.controller());
    if (controls !== undefined && runsProgram(controls, program)) return "upgraded";
  }
  throw new NydusError("unavailable", `Cannot upgrade "${client.socket}": it takes too long`);
}

async function pidOf(client: ControlClient): Promise<number | undefined> {
  return await orNone(client.ping());
}

async function orNone<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isCode(error, "unavailable")) return undefined;
    throw error;
  }
}
