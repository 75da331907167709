/**
 * `nydus-tool mount-erofs`: the part of mounting that touches files which another process serves. Not for people.
 *
 * @module
 */
import { mountHere } from "../lib/mount/erofs-aside.ts";
import type { Command } from "./command.ts";

export const mountErofsVerb: Command = {
  name: "mount-erofs",
  summary: "Call mount(2) for EROFS beside the process that serves its devices (started by other verbs)",
  operands: "JSON",
  arity: [1, 1],
  hidden: true,
  flags: {},
  examples: [],
  async run(args, { print }) {
    print(mountHere(args.operand(0)));
  },
};
