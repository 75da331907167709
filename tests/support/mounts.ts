/** Mounts of this machine, as tests look for leftovers. @module */
import { readFileSync } from "node:fs";
import { run } from "./process.ts";

/** Mount points at or below a directory, deepest last. */
export function mountsUnder(directory: string): string[] {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .flatMap((line) => line.split(" ")[4] ?? [])
    .map((point) =>
      point.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
    );
  return points.filter((point) => point === directory || point.startsWith(`${directory}/`));
}

/** Detach whatever a failed test left mounted. */
export async function umountAllUnder(directory: string): Promise<void> {
  for (const point of mountsUnder(directory).reverse()) await run("umount", ["-l", point], { mayFail: true });
}
