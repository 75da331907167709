import { expect, test } from "vitest";
import { NydusError } from "../base/error.ts";
import { patientUmount } from "./patient-umount.ts";

const dead = new NydusError("unavailable", "Cannot reach the mount process: nobody answers");
const unknown = new NydusError("not_found", "Cannot unmount: there is no such mount");

/** Answers in order; undefined is success. The last one stays. */
function answering(...answers: readonly (NydusError | undefined)[]): () => Promise<void> {
  let asked = 0;
  return async () => {
    const answer = answers[Math.min(asked++, answers.length - 1)];
    if (answer !== undefined) throw answer;
  };
}

const gone = (): boolean => false;
const there = (): boolean => true;

test("patientUmount() asks the successor of a server that died", async () => {
  await patientUmount({ umount: answering(dead, dead, undefined), isMounted: there, pauseMs: 1 });
});

test("patientUmount() is content when the one that died had done it", async () => {
  await patientUmount({ umount: answering(dead, unknown), isMounted: gone, pauseMs: 1 });
});

test("patientUmount() is content when nobody answers any more and nothing is mounted", async () => {
  await patientUmount({ umount: answering(dead), isMounted: gone, pauseMs: 1 });
});

test("patientUmount() says so when there is no such mount, or no successor", async () => {
  const first = patientUmount({ umount: answering(unknown), isMounted: gone, pauseMs: 1 });
  await expect(first).rejects.toMatchObject({ code: "not_found" });
  const never = patientUmount({ umount: answering(dead), isMounted: there, pauseMs: 1 });
  await expect(never).rejects.toMatchObject({ code: "unavailable" });
});
