/**
 * Structured log lines to one sink. A logger is passed to whoever needs it; there is no global one.
 *
 * @module
 */

export type Level = "debug" | "info" | "warn" | "error";
export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  with(fields: Fields): Logger;
}

const LEVELS: readonly Level[] = ["debug", "info", "warn", "error"];

function quoted(value: string | number | boolean): string {
  const text = String(value);
  return /^[\w./:@+-]+$/.test(text) ? text : JSON.stringify(text);
}

export function createLogger(
  write: (line: string) => void,
  least: Level = "info",
  base: Fields = {},
): Logger {
  const log = (level: Level, message: string, fields: Fields = {}): void => {
    if (LEVELS.indexOf(level) < LEVELS.indexOf(least)) return;
    const pairs = Object.entries({ ...base, ...fields })
      .flatMap(([key, value]) => (value === undefined ? [] : [` ${key}=${quoted(value)}`]))
      .join("");
    write(`${new Date().toISOString()} ${level} ${message}${pairs}\n`);
  };
  return {
    debug: (message, fields) => log("debug", message, fields),
    info: (message, fields) => log("info", message, fields),
    warn: (message, fields) => log("warn", message, fields),
    error: (message, fields) => log("error", message, fields),
    with: (fields) => createLogger(write, least, { ...base, ...fields }),
  };
}

export const quietLogger: Logger = createLogger(() => {}, "error");
