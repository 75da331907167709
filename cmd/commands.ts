/** The verbs, one file each, in the order of `--help`. @module */
import { check } from "./check.ts";
import { chunkdictGenerate } from "./chunkdict-generate.ts";
import type { Command } from "./command.ts";
import { convert } from "./convert.ts";
import { diff } from "./diff.ts";
import { inspect } from "./inspect.ts";
import { merge } from "./merge.ts";
import { mount } from "./mount.ts";
import { mountKeeper } from "./mount-keeper.ts";
import { mountServer } from "./mount-server.ts";
import { optimize } from "./optimize.ts";
import { pull } from "./pull.ts";
import { registryServe } from "./registry-serve.ts";
import { scrub } from "./scrub.ts";
import { snapshotterDoctor } from "./snapshotter-doctor.ts";
import { snapshotterInstall, snapshotterUninstall } from "./snapshotter-install.ts";
import { snapshotterServe } from "./snapshotter-serve.ts";
import { stat } from "./stat.ts";
import { status } from "./status.ts";
import { streamProcessor } from "./stream-processor.ts";
import { tracePull, tracePush } from "./trace.ts";
import { umount } from "./umount.ts";
import { unpack } from "./unpack.ts";
import { upgrade } from "./upgrade.ts";

export const COMMANDS: readonly Command[] = [
  convert,
  optimize,
  pull,
  mount,
  umount,
  unpack,
  check,
  inspect,
  stat,
  diff,
  merge,
  chunkdictGenerate,
  tracePush,
  tracePull,
  snapshotterServe,
  snapshotterInstall,
  snapshotterUninstall,
  snapshotterDoctor,
  status,
  upgrade,
  scrub,
  registryServe,
  mountServer,
  mountKeeper,
  streamProcessor,
];
