/**
 * What can go wrong with a source, and a tree that takes several requests to read.
 *
 * @module
 */
import type { Fault, FaultRegistry } from "./fault-registry.ts";
import { fileNode, type Model, type ModelNode, node } from "./model.ts";
import { Random } from "./random.ts";

/** For the first answer to each range. */
export const FAULTS: readonly (readonly [what: string, fault: Fault])[] = [
  ["401", { kind: "status", status: 401 }],
  ["403", { kind: "status", status: 403 }],
  ["429 with Retry-After", { kind: "status", status: 429, retryAfter: 1 }],
  ["500", { kind: "status", status: 500 }],
  ["503", { kind: "status", status: 503 }],
  ["a broken connection", { kind: "reset" }],
  ["a body that breaks off", { kind: "reset", after: 100_000 }],
  ["a short body", { kind: "short", missing: 100 }],
  ["a wrong bit", { kind: "flip", at: 300 }],
  ["a redirect that expires", { kind: "redirect", uses: 1 }],
  ["no answer", { kind: "hang" }],
];

/** What is asked again from where it stuck has another range each time: these meet every other request. */
export const STUCK: readonly (readonly [what: string, fault: Fault])[] = [
  ["a body that stops", { kind: "hang", after: 100_000 }],
  ["a body that crawls", { kind: "trickle", bytes: 100 }],
];

export interface Request {
  /** For this range, from 1. */
  readonly attempt: number;
  /** How many there were before. */
  readonly asked: number;
  readonly registry: FaultRegistry;
  /** Resolves when nothing but this trouble is left. */
  readonly over: Promise<void>;
}

/** A way in which a source does not do as it should. The first request of all is always spoilt. */
export interface Trouble {
  /** Before anything is read. */
  begin?(registry: FaultRegistry): void;
  /** @returns undefined when all is well; "unseen" when the answer is right and something else is wrong */
  meet(request: Request): Fault | "unseen" | undefined;
}

type Named = readonly [when: string, trouble: Trouble];

/** Every one that the reads of a mount are to survive. */
export const TROUBLES: readonly Named[] = [
  ...FAULTS.map(
    ([what, fault]): Named => [
      `each range is first answered by ${what}`,
      { meet: ({ attempt }) => (attempt === 1 ? fault : undefined) },
    ],
  ),
  ...STUCK.map(
    ([what, fault]): Named => [
      `every other request is answered by ${what}`,
      { meet: ({ asked }) => (asked % 2 === 0 ? fault : undefined) },
    ],
  ),
  [
    "every blob is redirected to an address that expires after two reads",
    // The first address, after which something happens, gives no more than one answer: there must be some left to ask for.
    { meet: ({ asked }) => ({ kind: "redirect", uses: asked === 0 ? 1 : 2 }) },
  ],
  [
    "tokens end with the next read",
    {
      begin: (registry) => {
        registry.tokenLifetime = 60_000;
      },
      meet: ({ registry }) => {
        registry.revokeTokens();
        return "unseen";
      },
    },
  ],
  [
    "tokens live for a tenth of a second",
    {
      begin: (registry) => {
        registry.tokenLifetime = 100;
      },
      meet: () => "unseen",
    },
  ],
  ["the registry ignores ranges", { meet: ({ over }) => ({ kind: "ignore-range", rest: over }) }],
];

/** Enough for several requests, in files small and large. @param scale 1 for 6 MB of content */
export function troubledTree(scale = 1): Model {
  const random = new Random(11);
  const file = (bytes: number, kind: "noise" | "prose" = "noise"): ModelNode =>
    fileNode(random[kind](Math.ceil(bytes * scale)));
  const files = Array.from({ length: 30 }, (_, i) => [`small-${i}`, file(20_000 + i)] as const);
  return new Map([
    ["", node("dir", { implicit: true })],
    ...files,
    ["noise", file(3_000_000)],
    ["prose", file(1_000_000, "prose")],
    ["last", file(1_500_000)],
  ]);
}
