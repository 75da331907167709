/**
 * Draws progress: bars on a terminal, a plain line when a task ends otherwise.
 *
 * @module
 */
import { formatBytes } from "../lib/base/format-bytes.ts";
import type { Progress, Task } from "../lib/base/progress.ts";

interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

interface Bar {
  readonly label: string;
  done: number;
  total: number;
  state: string | undefined;
}

export { formatBytes };

const REDRAW_MS = 100;
const WIDTH = 24;

function drawn(bar: Bar): string {
  const share = bar.total > 0 ? Math.min(1, bar.done / bar.total) : bar.state === undefined ? 0 : 1;
  const full = Math.round(share * WIDTH);
  const amount =
    bar.total > 0 ? `${formatBytes(bar.done)} / ${formatBytes(bar.total)}` : formatBytes(bar.done);
  return `${bar.label.padEnd(24)} [${"=".repeat(full)}${" ".repeat(WIDTH - full)}] ${bar.state ?? amount}`;
}

export function terminalProgress(output: Output): Progress {
  const bars: Bar[] = [];
  let lines = 0;
  let last = 0;

  const redraw = (force: boolean): void => {
    const now = performance.now();
    if (!force && now - last < REDRAW_MS) return;
    last = now;
    const columns = output.columns ?? 80;
    const up = lines > 0 ? `\x1b[${lines}A` : "";
    output.write(up + bars.map((bar) => `\x1b[2K${drawn(bar).slice(0, columns - 1)}\n`).join(""));
    lines = bars.length;
  };

  return {
    task(label, total = 0): Task {
      const bar: Bar = { label, done: 0, total, state: undefined };
      bars.push(bar);
      if (output.isTTY) redraw(true);
      return {
        advance(units) {
          bar.done += units;
          if (output.isTTY) redraw(false);
        },
        total(units) {
          bar.total = units;
        },
        finish(state = "done") {
          bar.state = state;
          if (output.isTTY) redraw(true);
          else output.write(`${label}: ${state}${bar.done > 0 ? ` (${formatBytes(bar.done)})` : ""}\n`);
        },
      };
    },
  };
}
