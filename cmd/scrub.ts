/**
 * `nydus-tool scrub`: reads the caches of running mounts back, and mends what a disk has lost.
 *
 * @module
 */
import { isCode } from "../lib/base/error.ts";
import { clients } from "../lib/mount/run-directory.ts";
import type { Command } from "./command.ts";
import { RUN_ROOT_FLAG, runRootOf } from "./run-root.ts";

export const scrub: Command = {
  name: "scrub",
  summary: "Read back what is cached of mounted images; fetch again what is damaged",
  operands: "",
  arity: [0, 0],
  flags: {
    ...RUN_ROOT_FLAG,
    json: { type: "boolean", help: "as JSON" },
  },
  examples: [["nydus-tool scrub", "now and then, such as once a month; containers go on meanwhile"]],
  async run(args, context) {
    const { print } = context;
    const total = { checkedChunks: 0, damagedChunks: 0 };
    for (const client of clients(runRootOf(args, context))) {
      try {
        const { checkedChunks, damagedChunks } = await client.scrub();
        total.checkedChunks += checkedChunks;
        total.damagedChunks += damagedChunks;
      } catch (error) {
        if (!isCode(error, "unavailable")) throw error;
      }
    }
    if (args.boolean("json")) return print(JSON.stringify(total));
    const damage = total.damagedChunks === 0 ? "all whole" : `${total.damagedChunks} damaged, fetched again`;
    print(`${total.checkedChunks} chunks read back: ${damage}`);
  },
};
