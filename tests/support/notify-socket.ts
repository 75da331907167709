/** Stands in for systemd's notify socket and descriptor store, in a process of its own. @module */
import { waitFor } from "./process.ts";
import type { Workspace } from "./workspace.ts";

export class NotifySocket {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  constructor(place: Workspace) {
    const script = new URL("./notify-socket.py", import.meta.url).pathname;
    this.#child = Bun.spawn(["python3", script, place.path("notify")], { stdin: "pipe", stdout: "pipe" });
    this.#lines = linesOf(this.#child.stdout);
    place.defer(async () => {
      this.#child.kill();
      await this.#child.exited;
    });
  }

  /** @returns the id of a process that got what the store holds */
  async start(words: readonly string[], log: string): Promise<number> {
    return ((await this.#ask({ start: words, log })) as { pid: number }).pid;
  }

  /** Until a process that it started has ended. */
  async ended(pid: number): Promise<void> {
    await this.#ask({ wait: pid });
  }

  /** As if the unit had no store. */
  async forget(): Promise<void> {
    await this.#ask({ forget: true });
  }

  async names(): Promise<readonly string[]> {
    return ((await this.#ask({ stored: true })) as { names: string[] }).names;
  }

  async saw(message: string): Promise<void> {
    await waitFor(message, async () => {
      const { states } = (await this.#ask({ stored: true })) as { states: Record<string, string>[] };
      return states.some((state) => Object.entries(state).some((pair) => pair.join("=") === message));
    });
  }

  async #ask(command: object): Promise<unknown> {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    await this.#child.stdin.flush();
    return JSON.parse((await this.#lines.next()).value as string);
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let text = "";
  for await (const bytes of stream) {
    text += Buffer.from(bytes).toString();
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
}
