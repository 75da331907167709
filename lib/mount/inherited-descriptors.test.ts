import { expect, test } from "vitest";
import { environmentOfSelf, environmentWith, inheritedDescriptors } from "./inherited-descriptors.ts";

test("inheritedDescriptors() reads systemd's variables only in the process they were meant for", () => {
  const environment = { LISTEN_PID: "12", LISTEN_FDS: "2", LISTEN_FDNAMES: "fuse-1:fuse-7" };
  expect([...inheritedDescriptors(environment, 12)]).toEqual([
    ["fuse-1", 3],
    ["fuse-7", 4],
  ]);
  expect(inheritedDescriptors(environment, 13).size).toBe(0);
  expect(inheritedDescriptors({}, 13).size).toBe(0);
});

test("environmentWith() tells a child what it is given, and nothing that was meant for us", () => {
  const ours = { PATH: "/bin", NOTIFY_SOCKET: "/n", LISTEN_PID: "1", LISTEN_FDS: "1", LISTEN_FDNAMES: "old" };
  const child = environmentWith(
    ours,
    new Map([
      ["fuse-1", 40],
      ["fuse-2", 30],
    ]),
  );
  expect(child).toEqual({ PATH: "/bin", NYDUS_FDNAMES: "fuse-1:fuse-2" });
  expect([...inheritedDescriptors(child, 2)]).toEqual([
    ["fuse-1", 3],
    ["fuse-2", 4],
  ]);
  expect(environmentWith(child, new Map())).toEqual({ PATH: "/bin" });
});

test("environmentOfSelf() says where descriptors stay, and keeps what systemd said", () => {
  const systemd = { NOTIFY_SOCKET: "/n", LISTEN_PID: "7", LISTEN_FDS: "1", LISTEN_FDNAMES: "fuse-1" };
  const ours = environmentOfSelf({ ...systemd, NYDUS_FDNAMES: "fuse-0" }, new Map([["fuse-2", 31]]));
  expect(ours).toEqual({ ...systemd, NYDUS_FDS: "fuse-2=31" });
  expect([...inheritedDescriptors(ours, 7)]).toEqual([["fuse-2", 31]]);
  expect(inheritedDescriptors(environmentOfSelf(systemd, new Map()), 7).size).toBe(0);
  expect(environmentWith(ours, new Map())).toEqual({});
});
