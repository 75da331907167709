/**
 * Ordinary users of this machine, in a mount namespace of their own where anybody may open /dev/fuse. Nothing outside of
 * it changes.
 *
 * @module
 */
import { chmod, chown, copyFile, mkdir, writeFile } from "node:fs/promises";
import { type Output, type RunOptions, run, startService, waitFor } from "./process.ts";
import { TOOL, type Workspace } from "./workspace.ts";

/** Of every Debian. fusermount3 wants to know a user's name. */
const USERS = { daemon: 1, nobody: 65_534 } as const;
export type User = keyof typeof USERS;

/** Root may have programs at home. */
const PUBLIC_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const CHECK_TREE = new URL("./check-tree.py", import.meta.url).pathname;

export interface UserSpace {
  /** Where the user may write. */
  home(user: User): string;
  /** Runs any program. Root keeps its powers, but is in the namespace too. */
  run(user: User | "root", words: readonly string[], options?: RunOptions): Promise<Output>;
  /** Runs the program under test, with the user's own directories. */
  tool(user: User, args: readonly string[], options?: RunOptions): Promise<Output>;
  /** Differences from an expected tree, as this user sees it. */
  checkTree(user: User, expected: string, directory: string): Promise<string>;
  /** Mount points below the workspace. */
  mounts(): Promise<string[]>;
}

export async function userSpace(place: Workspace): Promise<UserSpace> {
  await chmod(place.directory, 0o755);
  // The checkout may be root's alone.
  await mkdir(place.path("bin"), { mode: 0o755 });
  for (const [from, to] of [
    [TOOL, "nydus-tool"],
    [CHECK_TREE, "check-tree.py"],
  ] as const) {
    await copyFile(from, place.path("bin", to));
    await chmod(place.path("bin", to), 0o755);
  }
  const pid = await holdNamespace(place);
  const home = (user: User): string => place.path(`home-${user}`);
  for (const user of Object.keys(USERS) as User[]) {
    await mkdir(home(user), { mode: 0o700 });
    await chown(home(user), USERS[user], USERS[user]);
  }
  const inside = (
    user: User | "root",
    words: readonly string[],
    options: RunOptions = {},
  ): Promise<Output> => {
    const as = user === "root" ? [] : become(USERS[user]);
    return run("nsenter", [`--mount=/proc/${pid}/ns/mnt`, "--", ...as, ...words], {
      ...options,
      env: { PATH: PUBLIC_PATH, ...options.env },
    });
  };
  const tool: UserSpace["tool"] = (user, args, options = {}) =>
    inside(user, [place.path("bin/nydus-tool"), ...args], {
      ...options,
      env: { HOME: home(user), XDG_RUNTIME_DIR: home(user), XDG_CACHE_HOME: "", ...options.env },
    });
  return {
    home,
    run: inside,
    tool,
    checkTree: async (user, expected, directory) => {
      const words = ["python3", place.path("bin/check-tree.py"), expected, directory];
      const { stdout, stderr } = await inside(user, words, { mayFail: true });
      return (stdout + stderr).trim();
    },
    mounts: async () => {
      const { stdout } = await inside("root", ["cat", "/proc/self/mountinfo"]);
      return stdout
        .split("\n")
        .flatMap((line) => line.split(" ")[4] ?? [])
        .filter((point) => point.startsWith(`${place.directory}/home-`));
    },
  };
}

function become(uid: number): string[] {
  return ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"];
}

/** A sleeping process keeps it; mounts that a failed test leaves in it end with it. */
async function holdNamespace(place: Workspace): Promise<number> {
  const ready = place.path("namespace");
  const script = [
    `mkdir ${place.path("dev")}`,
    `mount -t tmpfs -o mode=755 dev ${place.path("dev")}`,
    `mknod -m 666 ${place.path("dev/fuse")} c 10 229`,
    `mount --bind ${place.path("dev/fuse")} /dev/fuse`,
    `echo $$ > ${ready}`,
    "exec sleep infinity",
  ].join(" && ");
  await writeFile(ready, "");
  const words = ["--mount", "--propagation", "private", "sh", "-c", script];
  const holder = startService("unshare", words, { log: place.path("namespace.log") });
  place.defer(() => holder.stop());
  await waitFor("a mount namespace", async () => (await Bun.file(ready).text()).trim() !== "", {
    service: holder,
  });
  return Number((await Bun.file(ready).text()).trim());
}
