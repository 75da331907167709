/**
 * Works on a snapshotter until it is killed, and says what was finished: `+ NAME` for a snapshot that exists from now on,
 * `- NAME` for one that is gone. Run by the test that kills it.
 *
 * @module
 */
import { Snapshotter } from "../../lib/snapshot/snapshotter.ts";
import { TestMounter } from "./test-mounter.ts";

const [root = "", round = "0"] = process.argv.slice(2);
const snapshotter = await Snapshotter.open({ root, mounter: new TestMounter() });
const say = (line: string): void => void process.stdout.write(`${line}\n`);
say("ready");
for (let i = 0; ; i++) {
  const [key, name, view] = [`k-${round}-${i}`, `c-${round}-${i}`, `v-${round}-${i}`];
  await snapshotter.prepare({ key, parent: "", labels: { l: "1" } });
  say(`+ ${key}`);
  await snapshotter.commit({ name, key, labels: { l: "2" } });
  say(`- ${key}`);
  say(`+ ${name}`);
  await snapshotter.view({ key: view, parent: name, labels: {} });
  say(`+ ${view}`);
  await snapshotter.update(view, { l: "3" }, []);
  if (i % 2 === 0) continue;
  await snapshotter.remove(view);
  say(`- ${view}`);
  await snapshotter.remove(name);
  say(`- ${name}`);
}
