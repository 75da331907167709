/**
 * What systemd does with the snapshotter, where there is systemd.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { type Finding, problem, warning, well } from "./finding.ts";
import { UNIT } from "./systemd-unit.ts";

const run = promisify(execFile);

/** The original's, which serves the same socket. */
const OTHER = "nydus-snapshotter.service";

export async function checkService(): Promise<Finding[]> {
  if (!existsSync("/run/systemd/system")) return [];
  const [own, other] = await Promise.all([propertiesOf(UNIT), propertiesOf(OTHER)]);
  return [ownFinding(own), ...(other.ActiveState === "active" ? [otherFinding()] : [])];
}

export function ownFinding({ LoadState, ActiveState, KillMode, Result }: Properties): Finding {
  if (LoadState !== "loaded")
    return warning("service", `${UNIT} is not installed`, "nydus-tool snapshotter install --now");
  if (KillMode !== "process")
    return problem(
      "service",
      `KillMode=${KillMode}: a restart would end the process that containers read through`,
      `set KillMode=process (systemctl edit ${UNIT})`,
    );
  if (ActiveState !== "active")
    return problem(
      "service",
      `${UNIT} is ${ActiveState} (${Result})`,
      `systemctl start ${UNIT}; journalctl -u ${UNIT}`,
    );
  return well("service", `${UNIT} is active`);
}

function otherFinding(): Finding {
  return problem(
    "service",
    `${OTHER} runs too, on the same socket`,
    `drain the node, systemctl disable --now ${OTHER}, then systemctl start ${UNIT}`,
  );
}

export type Properties = Readonly<Record<string, string>>;

async function propertiesOf(unit: string): Promise<Properties> {
  try {
    const names = ["LoadState", "ActiveState", "KillMode", "Result"].join(",");
    const { stdout } = await run("systemctl", ["show", unit, "--property", names]);
    return Object.fromEntries(stdout.split("\n").map((line) => line.split("=", 2)));
  } catch {
    return {}; // no systemctl to ask
  }
}
