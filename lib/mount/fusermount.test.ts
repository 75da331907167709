import { expect, test } from "vitest";
import { checkUserMay, complaintOf } from "./fusermount.ts";

test.each(["erofs", "erofs-loop"] as const)("driver %s is root's", (driver) => {
  expect(() => checkUserMay("app:1", { driver, writable: false })).toThrow(
    `Cannot mount "app:1" with driver ${driver}: it needs root`,
  );
});

test.each([
  ["fusermount3: mount failed: Operation not permitted\n", "mount failed: Operation not permitted"],
  ["a warning\n/usr/bin/fusermount3: user has no write access\n", "user has no write access"],
  ["", "fusermount3 failed and did not say why"],
])("what fusermount3 says with %j", (said, complaint) => {
  expect(complaintOf(said)).toBe(complaint);
});
