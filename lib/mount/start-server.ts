/**
 * Starts a mount server and waits until it answers.
 *
 * @module
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { isCode, NydusError } from "../base/error.ts";
import { PROGRAM_NAME, selfCommand } from "../base/self.ts";
import type { ControlClient } from "./control-client.ts";
import type { Controller } from "./controller.ts";
import { environmentWith } from "./inherited-descriptors.ts";
import type { Program } from "./program.ts";

export const START_TIMEOUT_MS = 15_000;
const POLL_MS = 10;

/**
 * How the runtime collects garbage, unless somebody says otherwise: all of it when the young part has less than this share
 * of the heap, and the heap may grow by this factor. As it is by itself (1/3, and 2), what has passed through stays until
 * it is several times what is needed. Measured: 60 MB less while everything is read, at the same speed.
 */
const COLLECTOR = { BUN_JSC_minEdenToOldGenerationRatio: "0.7", BUN_JSC_smallHeapGrowthFactor: "1.5" };

export interface ServerSetup {
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  /** Bytes of data in the cache; without it, as much as there is room. */
  readonly cacheSize?: number | undefined;
  /** Seconds without any mount after which the process ends by itself. */
  readonly idleSeconds?: number;
  readonly controller: Controller;
  /** To start in the place of this program. */
  readonly program?: Program;
  /** A dead predecessor's file systems: their descriptors by name. */
  readonly kept: ReadonlyMap<string, number>;
}

/** @returns the id of the process that answers: another one, if that was there first. @throws unavailable when the process does not become ready */
export async function startServer(client: ControlClient, setup: ServerSetup): Promise<number> {
  const { runDirectory } = setup;
  mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
  const log = join(runDirectory, "mount-server.log");
  const output = openSync(log, "a", 0o600);
  try {
    // Detached: its own session, so that ending this process (or its terminal) does not end it.
    const child = Bun.spawn([...(setup.program ?? selfCommand()), ...serverWords(setup)], {
      argv0: PROGRAM_NAME,
      stdio: ["ignore", output, output, ...setup.kept.values()],
      env: { ...COLLECTOR, ...environmentWith(process.env, setup.kept) },
      detached: true,
      cwd: "/",
    });
    child.unref();
    const pid = await readyOf(client, child);
    if (pid !== child.pid) child.kill("SIGKILL");
    if (pid !== undefined) return pid;
  } finally {
    closeSync(output);
  }
  throw new NydusError(
    "unavailable",
    `Cannot start the mount process: it did not become ready; see "${log}"`,
  );
}

function serverWords(setup: ServerSetup): string[] {
  const { runDirectory, cacheDirectory, cacheSize, idleSeconds, controller } = setup;
  return [
    ...["mount-server", "--run-dir", runDirectory, "--cache-dir", cacheDirectory],
    ...["--controller", JSON.stringify(controller)],
    ...(cacheSize === undefined ? [] : ["--cache-size", `${cacheSize}`]),
    ...(idleSeconds === undefined ? [] : ["--idle", `${idleSeconds}`]),
  ];
}

async function readyOf(client: ControlClient, child: Bun.Subprocess): Promise<number | undefined> {
  for (let waited = 0; waited < START_TIMEOUT_MS; waited += POLL_MS) {
    const pid = await pidOf(client);
    if (pid !== undefined) return pid;
    if (child.exitCode !== null || child.signalCode !== null) return undefined;
    await Bun.sleep(POLL_MS);
  }
  return undefined;
}

/** Of the process that answers, if any does. */
async function pidOf(client: ControlClient): Promise<number | undefined> {
  try {
    return await client.ping();
  } catch (error) {
    if (isCode(error, "unavailable")) return undefined;
    throw error;
  }
}
