/**
 * A source in trouble while other things happen, one after the other: each begins when an answer has just been spoilt,
 * and nothing else is answered before it is over. Then the trouble goes on, for as long as there is something to ask for.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Fault, FaultRegistry, SeenRequest } from "./fault-registry.ts";
import type { Trouble } from "./source-troubles.ts";

/** Milliseconds in which a spoilt answer reaches whoever asked. Nothing depends on that: it is the usual case. */
const ON_ITS_WAY = 20;

export class Mischief implements Disposable {
  readonly #registry: FaultRegistry;
  readonly #trouble: Trouble;
  readonly #attempts = new Map<string, number>();
  #asked = 0;
  /** Of what happens now, until an answer was spoilt for it. */
  #begun: PromiseWithResolvers<void> | undefined;
  /** When requests that wait are looked at again. */
  #next = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  #isOver = false;
  /** Things that happened while a spoilt answer was all that there was. */
  happened = 0;

  constructor(registry: FaultRegistry, trouble: Trouble) {
    this.#registry = registry;
    this.#trouble = trouble;
    registry.fault = (request) => this.#meet(request);
  }

  /** @param work waits for its moment, and ends when everybody may ask again */
  async during(work: (moment: Promise<void>) => Promise<void>): Promise<void> {
    const begun = Promise.withResolvers<void>();
    this.#attempts.clear();
    this.#asked = 0;
    this.#begun = begun;
    this.#lookAgain();
    const moment = begun.promise.then(() => sleep(ON_ITS_WAY));
    await work(moment);
    await moment;
    this.happened++;
  }

  /** Nothing more happens. */
  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#over.resolve();
    this.#lookAgain();
  }

  #lookAgain(): void {
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }

  async #meet(request: SeenRequest): Promise<Fault | undefined> {
    while (!this.#isOver && this.#begun === undefined) await this.#next.promise;
    // Whoever asked may have been killed meanwhile.
    if (request.isGone()) return undefined;
    this.#begun?.resolve();
    this.#begun = undefined;
    return this.#spoil(request);
  }

  #spoil({ range }: SeenRequest): Fault | undefined {
    const key = `${range?.start}-${range?.end}`;
    const attempt = (this.#attempts.get(key) ?? 0) + 1;
    this.#attempts.set(key, attempt);
    const over = this.#over.promise;
    const fault = this.#trouble.meet({ attempt, asked: this.#asked++, registry: this.#registry, over });
    return fault === "unseen" ? undefined : fault;
  }
}
