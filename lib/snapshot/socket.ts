/** Unix sockets that only root may use, put in place in one step. @module */

import { chmod, lstat, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { NydusError, toNydusError } from "../base/error.ts";

/**
 * Let `listen` bind inside a private directory, then move the socket to its address: nobody can connect before its
 * permissions are right. What a killed process left at the address is replaced.
 *
 * @throws busy when somebody listens there, exists when another kind of file is there
 */
export async function listenPrivately(
  address: string,
  listen: (path: string) => Promise<void>,
): Promise<void> {
  if (await answers(address))
    throw new NydusError("busy", `Cannot listen on "${address}": another process listens there`);
  const there = await lstat(address).catch(() => undefined);
  if (there !== undefined && !there.isSocket())
    throw new NydusError("exists", `Cannot listen on "${address}": it is another file`);
  try {
    await mkdir(dirname(address), { recursive: true, mode: 0o711 });
    const directory = await mkdtemp(join(dirname(address), ".n-"));
    try {
      await listen(join(directory, "s"));
      await chmod(join(directory, "s"), 0o600);
      await rename(join(directory, "s"), address);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  } catch (error) {
    throw toNydusError(error, `listen on "${address}"`);
  }
}

/** Whether somebody accepts connections there. */
function answers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
