/**
 * Mounting EROFS in a process of its own. mount(2) opens the devices, which are files that the calling process's own
 * threads would have to look up: if it is killed then, its threads are gone, the call never ends, and the call keeps open
 * what would end it. Such a process cannot be killed for good. From outside, the call fails when the server dies, or
 * ends when a successor answers.
 *
 * @module
 */
import { MEANINGS, NydusError, toNydusError } from "../base/error.ts";
import { PROGRAM_NAME, selfCommand } from "../base/self.ts";
import { type ErofsMount, mountErofs } from "./erofs.ts";
import { mountErofsOnLoops } from "./erofs-loop.ts";

export interface AsideRequest extends ErofsMount {
  /** Over loop devices, for kernels that cannot mount files. */
  readonly loops: boolean;
}

/** What the other process says: one line. */
interface Outcome {
  readonly code?: NydusError["code"];
  readonly message?: string;
}

/** @throws what mounting throws */
export async function mountErofsAside(request: AsideRequest): Promise<void> {
  const child = Bun.spawn([...selfCommand(), "mount-erofs", JSON.stringify(request)], {
    argv0: PROGRAM_NAME,
    stdio: ["ignore", "pipe", "ignore"],
    cwd: "/",
  });
  const said = await new Response(child.stdout).text();
  await child.exited;
  const { code, message = "the process that was to do it said nothing" } = parseOutcome(said);
  if (message === "") return;
  throw new NydusError(
    code ?? "internal",
    code === undefined ? `Cannot mount "${request.mountpoint}": ${message}` : message,
  );
}

function parseOutcome(text: string): Outcome {
  try {
    const { code, message } = JSON.parse(text) as Outcome;
    const known = code !== undefined && Object.hasOwn(MEANINGS, code) ? { code } : {};
    return typeof message === "string" ? { ...known, message } : {};
  } catch {
    return {};
  }
}

/** One line. */
export function sayOutcome(work: () => void): string {
  try {
    work();
    return JSON.stringify({ message: "" } satisfies Outcome);
  } catch (error) {
    const { code, message } = toNydusError(error, "mount EROFS");
    return JSON.stringify({ code, message } satisfies Outcome);
  }
}

/** In the other process. @returns what to print */
export function mountHere(text: string): string {
  return sayOutcome(() => {
    const request = parseAsideRequest(text);
    if (request.loops) mountErofsOnLoops(request);
    else mountErofs(request);
  });
}

/** @throws usage */
export function parseAsideRequest(text: string): AsideRequest {
  const { bootstrap, devices, mountpoint, loops } = JSON.parse(text) as Partial<
    Record<keyof AsideRequest, unknown>
  >;
  const isText = (value: unknown): value is string => typeof value === "string";
  if (isText(bootstrap) && isText(mountpoint) && Array.isArray(devices) && devices.every(isText))
    return { bootstrap, devices, mountpoint, loops: loops === true };
  throw new NydusError("usage", "Cannot mount EROFS: the request names no bootstrap, devices and mountpoint");
}
