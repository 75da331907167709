/**
 * Descriptors that a process was given at its start, from number 3 on, with a name each: by the process that started it
 * again, or by systemd out of its store (sd_listen_fds_with_names(3)).
 *
 * @module
 */
import type { Environment } from "../base/systemd.ts";

/** Descriptors handed over come after the standard streams. */
const FIRST_FD = 3;

/** Our own way to say so: the process id, which systemd's needs, is not known before the start. */
const NAMES = "NYDUS_FDNAMES";
/** For a process that becomes another program: they stay where they are, "name=number". */
const PLACES = "NYDUS_FDS";

/** What FUSE sessions are called. */
const SESSION = /^fuse-\d+$/;

/** Meant for one process: a child must not take them for its own. */
const MEANT_FOR_ONE = [
  NAMES,
  PLACES,
  ...["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"],
];

/** Ours first: a service that starts itself anew still has systemd's words in its environment. */
export function inheritedDescriptors(environment: Environment, pid: number): ReadonlyMap<string, number> {
  const places = environment[PLACES];
  if (places !== undefined) return placed(places);
  const own = environment[NAMES];
  if (own !== undefined) return numbered(own);
  if (environment.LISTEN_PID !== String(pid)) return new Map();
  // A unit may have sockets too: they have other names.
  const all = numbered(environment.LISTEN_FDNAMES ?? "");
  return new Map([...all].filter(([name]) => SESSION.test(name)));
}

function placed(text: string): ReadonlyMap<string, number> {
  const pairs = text.split(":").map((pair) => pair.split("="));
  return new Map(pairs.flatMap(([name, fd]) => (name && fd ? [[name, Number(fd)] as const] : [])));
}

function numbered(names: string): ReadonlyMap<string, number> {
  return new Map(names === "" ? [] : names.split(":").map((name, i) => [name, FIRST_FD + i]));
}

/** For a child: what is passed to it behind the standard streams, in this order. */
export function environmentWith(
  environment: Environment,
  descriptors: ReadonlyMap<string, number>,
): Environment {
  const kept = Object.entries(environment).filter(([name]) => !MEANT_FOR_ONE.includes(name));
  const names = descriptors.size === 0 ? [] : [[NAMES, [...descriptors.keys()].join(":")] as const];
  return Object.fromEntries([...kept, ...names]);
}

/** For this process when it becomes another program; what a service manager said still holds. */
export function environmentOfSelf(
  environment: Environment,
  descriptors: ReadonlyMap<string, number>,
): Environment {
  const kept = Object.entries(environment).filter(([name]) => name !== NAMES);
  const places = [...descriptors].map(([name, fd]) => `${name}=${fd}`).join(":");
  return Object.fromEntries([...kept, [PLACES, places] as const]);
}
