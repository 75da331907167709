/**
 * `nydus-tool snapshotter doctor`: what on this node keeps the snapshotter from working well, and what to do about it.
 *
 * @module
 */
import { resolve } from "node:path";
import { DEFAULT_ADDRESS } from "../lib/containerd/client.ts";
import { checkContainerd } from "../lib/setup/check-containerd.ts";
import { checkKernel } from "../lib/setup/check-kernel.ts";
import { checkRegistry } from "../lib/setup/check-registry.ts";
import { checkService } from "../lib/setup/check-service.ts";
import type { Finding } from "../lib/setup/finding.ts";
import { DEFAULT_SNAPSHOTTER_ADDRESS } from "../lib/snapshot/service.ts";
import { DEFAULT_ROOT } from "../lib/snapshot/snapshotter.ts";
import { type Command, SilentExit } from "./command.ts";
import { sourceAccess } from "./registry-flags.ts";
import { SERVE_FLAGS, withConfig } from "./snapshotter-config.ts";
import { CONTAINERD_CONFIG } from "./snapshotter-install.ts";

export const snapshotterDoctor: Command = {
  name: "snapshotter doctor",
  summary: "Look at kernel, containerd, service and registries, and say what to do",
  operands: "[IMAGE...]",
  arity: [0, Number.POSITIVE_INFINITY],
  flags: {
    "containerd-config": {
      type: "string",
      value: "FILE",
      help: `containerd's configuration (${CONTAINERD_CONFIG})`,
    },
    json: { type: "boolean", help: "as JSON" },
    ...SERVE_FLAGS,
  },
  examples: [
    ["nydus-tool snapshotter doctor", "exit code 0 when nothing keeps it from working"],
    ["nydus-tool snapshotter doctor registry.example/app:1-nydus", "can this node read the image?"],
    ["nydus-tool snapshotter doctor --config /etc/nydus-tool/config.toml", "of a snapshotter with this file"],
  ],
  async run(given, { print, log }) {
    const { args, warnings } = await withConfig(given);
    for (const text of warnings) log.warn(text);
    const findings: Finding[] = [
      ...checkKernel(resolve(args.string("root") ?? DEFAULT_ROOT)),
      ...(await checkService()),
      ...(await checkContainerd({
        containerd: args.string("containerd-address") ?? DEFAULT_ADDRESS,
        containerdConfig: args.string("containerd-config") ?? CONTAINERD_CONFIG,
        address: args.string("address") ?? DEFAULT_SNAPSHOTTER_ADDRESS,
      })),
    ];
    for (const image of given.operands) findings.push(...(await checkRegistry(image, sourceAccess(args))));
    if (given.boolean("json")) print(JSON.stringify(findings, undefined, 2));
    else for (const line of findings.flatMap(described)) print(line);
    if (findings.some(({ state }) => state === "problem")) throw new SilentExit(1);
  },
};

function described({ subject, state, found, advice }: Finding): string[] {
  const line = `${state.padEnd(9)}${subject}: ${found}`;
  return advice === undefined ? [line] : [line, `         -> ${advice}`];
}
