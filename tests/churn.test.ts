/**
 * A node in trouble. `scripts/churn` lets it go on for ten minutes; here it is a few rounds.
 *
 *     NYDUS_CHURN_SECONDS=600 NYDUS_CHURN_SEED=7
 */
import { expect, test } from "vitest";
import { Churn } from "./support/churn.ts";
import { ChurnNode } from "./support/churn-node.ts";
import { Random } from "./support/random.ts";
import { workspace } from "./support/workspace.ts";

const SECONDS = Number(process.env.NYDUS_CHURN_SECONDS ?? 12);
const SEED = Number(process.env.NYDUS_CHURN_SEED ?? 1);

test(
  `pulls, runs, removals, kills and restarts in random order (seed ${SEED}) leave containerd and the snapshotter of one mind, and nothing else`,
  async () => {
    const place = await workspace();
    const node = await ChurnNode.start(place);
    const churn = new Churn(node, new Random(SEED));
    await churn.run(SECONDS);
    await churn.end();
    const { pulls, runs, removals, kills, answers } = churn.counts;
    process.stdout.write(
      `churn: ${pulls} pulls, ${runs} runs, ${removals} removals, ${kills} kills and restarts, ${answers} right answers\n`,
    );
    expect(Math.min(pulls, runs, kills, answers)).toBeGreaterThan(0);
  },
  (SECONDS + 240) * 1000,
);
