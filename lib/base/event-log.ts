/**
 * Keeps the last things that were logged, for whoever looks at the process from outside. What may be logged may be
 * shown: no secrets.
 *
 * @module
 */
import type { Fields, Level, Logger } from "./log.ts";

export interface LoggedEvent {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly level: Exclude<Level, "debug">;
  readonly message: string;
  readonly fields: Fields;
}

const KEPT = 100;

export class EventLog {
  /** Writes to the other logger, and is remembered. */
  readonly logger: Logger;
  readonly #events: LoggedEvent[] = [];

  constructor(sink: Logger) {
    this.logger = this.#logger(sink, {});
  }

  /** The oldest first. */
  list(): readonly LoggedEvent[] {
    return [...this.#events];
  }

  #logger(sink: Logger, base: Fields): Logger {
    const at =
      (level: LoggedEvent["level"]) =>
      (message: string, fields: Fields = {}): void => {
        this.#events.push({ at: Date.now(), level, message, fields: { ...base, ...fields } });
        if (this.#events.length > KEPT) this.#events.shift();
        sink[level](message, fields);
      };
    return {
      debug: (message, fields) => sink.debug(message, fields),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      with: (fields) => this.#logger(sink.with(fields), { ...base, ...fields }),
    };
  }
}
