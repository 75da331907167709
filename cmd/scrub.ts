/**
 * `nydus-tool scrub`: reads the caches of running mounts back, and mends what a disk has lost.
 *
 * @module
 */
import { resolve } from "node:path";
import { isCode } from "../lib/base/error.ts";
import { clients, DEFAULT_RUN_ROOT } from "../lib/mount/run-directory.ts";
import type { Command } from "./command.ts";

export const scrub: Command = {
  name: "scrub",
  summary: "Read back what is cached of mounted images; fetch again what is damaged",
  operands: "",
  arity: [0, 0],
  flags: {
    "run-dir": { type: "string", value: "DIR", help: `where running mounts are found (${DEFAULT_RUN_ROOT})` },
    json: { type: "boolean", help: "as JSON" },
  },
  examples: [["nydus-tool scrub", "now and then, such as once a month; containers go on meanwhile"]],
  async run(args, { print }) {
    const total = { checkedChunks: 0, damagedChunks: 0 };
    for (const client of clients(resolve(args.string("run-dir") ?? DEFAULT_RUN_ROOT))) {
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
