/** Reading `WWW-Authenticate`. Grammar: RFC 9110 11.6.1. @module */

export interface Challenge {
  /** Lower case: "basic", "bearer". */
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** A word, then optionally `= token` or `= "quoted"`. Sticky: matching continues where the last match ended. */
const WORD = /[\s,]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/y;

/** A word without a value begins a challenge; words with values belong to the challenge before them. */
export function parseChallenges(header: string): readonly Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  WORD.lastIndex = 0;
  for (let match = WORD.exec(header); match !== null; match = WORD.exec(header)) {
    const [, word = "", quoted, plain] = match;
    if (quoted === undefined && plain === undefined) {
      challenges.push({ scheme: word.toLowerCase(), parameters: new Map() });
    } else {
      const value = quoted?.replace(/\\(.)/g, "$1") ?? plain ?? "";
      challenges.at(-1)?.parameters.set(word.toLowerCase(), value);
    }
  }
  return challenges;
}
