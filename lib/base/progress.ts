/**
 * Progress of long work, reported by libraries and drawn by commands. A library calls; what is shown is decided by
 * whoever passed the reporter in (bars on a terminal, plain lines otherwise, nothing in tests).
 *
 * @module
 */

export interface Task {
  /** Add finished units (bytes unless the label says otherwise). */
  advance(units: number): void;
  /** Set the expected total once it is known. */
  total(units: number): void;
  /** The task is over; `state` says how in a word or two ("done", "already there", "skipped"). */
  finish(state?: string): void;
}

export interface Progress {
  task(label: string, total?: number): Task;
}

const silentTask: Task = { advance() {}, total() {}, finish() {} };

export const silent: Progress = { task: () => silentTask };
