/**
 * `nydus-tool diff`: whether two images hold the same files, and what differs.
 *
 * @module
 */
import { NydusError } from "../lib/base/error.ts";
import { openContent } from "../lib/inspect/content-tree.ts";
import { type ChangedField, type Difference, diffContents, type Field } from "../lib/inspect/diff.ts";
import { FIELDS } from "../lib/tree/diff.ts";
import { type Arguments, type Command, SilentExit } from "./command.ts";
import { DATA_FLAGS, oneLocationOfSeveral } from "./image-flags.ts";
import { shown } from "./inspect-text.ts";

/** As diff(1) and cmp(1) say it. */
const THEY_DIFFER = 1;

export const diff: Command = {
  name: "diff",
  summary: "Compare the files of two images, bootstraps or directories; exits 1 when they differ",
  operands: "BEFORE AFTER",
  arity: [2, 2],
  flags: {
    ignore: {
      type: "string",
      value: "FIELD",
      multiple: true,
      help: `what may differ; may be given again: ${FIELDS.join(", ")}`,
    },
    quiet: { type: "boolean", short: "q", help: "only the exit code; stops at the first difference" },
    ...DATA_FLAGS,
    json: { type: "boolean", help: "print one JSON object instead of lines" },
  },
  examples: [
    ["nydus-tool diff registry.example/app:1 registry.example/app:1-nydus", "says nothing when all is there"],
    [
      "nydus-tool diff registry.example/app:1-nydus registry.example/app:2-nydus",
      "fetches the bootstraps only",
    ],
    ["nydus-tool diff --ignore mtime old.boot dir:/srv/rootfs", "a bootstrap and a directory"],
    [
      "nydus-tool diff --quiet oci:./a oci:./b && echo same",
      "exits 0 (same), 1 (they differ) or more (failed)",
    ],
  ],
  async run(args, context) {
    const { signal, print } = context;
    await using before = await openContent(oneLocationOfSeveral(args, 0, context));
    await using after = await openContent(oneLocationOfSeveral(args, 1, context));
    const options = { ignore: ignoredFields(args), progress: context.progress(), signal };
    const found: Difference[] = [];
    let count = 0;
    for await (const difference of diffContents(before, after, options)) {
      signal.throwIfAborted();
      count++;
      if (args.boolean("quiet")) break;
      if (args.boolean("json")) found.push(difference);
      else print(lineOf(difference));
    }
    if (args.boolean("json") && !args.boolean("quiet"))
      print(JSON.stringify({ before: before.name, after: after.name, differences: found }));
    if (count > 0) throw new SilentExit(THEY_DIFFER);
  },
};

function ignoredFields(args: Arguments): ReadonlySet<Field> {
  const words = args.strings("ignore").flatMap((text) => text.split(","));
  return new Set(
    words.map((word) => {
      const field = FIELDS.find((known) => known === word);
      if (field !== undefined) return field;
      throw new NydusError("usage", `Cannot ignore "${word}": it must be one of ${FIELDS.join(", ")}`);
    }),
  );
}

const MARKS = { added: "+", removed: "-", changed: "~" } as const;

function lineOf({ path, change, kind, fields }: Difference): string {
  const details = change === "changed" ? fields.map(fieldText).join(", ") : kind;
  return `${MARKS[change]} ${shown(path)}: ${details}`;
}

function fieldText({ field, before, after }: ChangedField): string {
  return before === "" && after === "" ? field : `${field} ${before || "none"} -> ${after || "none"}`;
}
