import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { usersCacheDirectory, usersRunRoot } from "./default-directories.ts";

const UID = process.getuid?.() ?? 0;

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), "directories-"));
  onTestFinished(() => rmSync(made, { recursive: true }));
  return made;
}

test("running mounts lie in the session's own directory, for their user alone", () => {
  const session = directory();
  const root = usersRunRoot({ XDG_RUNTIME_DIR: session }, UID, "/nowhere");
  expect(root).toBe(join(session, "nydus-tool"));
  expect(statSync(root).mode & 0o777).toBe(0o700);
});

test.each([undefined, "", "relative", "/no/such/directory"])("without a session (%j), in /tmp", (session) => {
  const shared = directory();
  expect(usersRunRoot({ XDG_RUNTIME_DIR: session }, UID, shared)).toBe(join(shared, `nydus-tool-${UID}`));
});

test("another user's session directory is not taken", () => {
  const [session, shared] = [directory(), directory()];
  chmodSync(session, 0o755);
  expect(usersRunRoot({ XDG_RUNTIME_DIR: session }, UID, shared)).toBe(join(shared, `nydus-tool-${UID}`));
});

test("a directory that others may enter is refused", () => {
  const shared = directory();
  mkdirSync(join(shared, `nydus-tool-${UID}`), { mode: 0o755 });
  expect(() => usersRunRoot({}, UID, shared)).toThrow("it is not a directory that only user");
});

test("a link to a private directory is refused", () => {
  const [shared, target] = [directory(), directory()];
  symlinkSync(target, join(shared, `nydus-tool-${UID}`));
  expect(() => usersRunRoot({}, UID, shared)).toThrow("it is not a directory that only user");
});

test("a directory of another user is refused", () => {
  const shared = directory();
  mkdirSync(join(shared, `nydus-tool-${UID + 1}`), { mode: 0o700 });
  expect(() => usersRunRoot({}, UID + 1, shared)).toThrow("it is not a directory that only user");
});

test.each([
  ["/caches", "/caches/nydus-tool"],
  ["relative", "/home/me/.cache/nydus-tool"],
  [undefined, "/home/me/.cache/nydus-tool"],
])("chunks are kept with XDG_CACHE_HOME %j in %s", (said, path) => {
  expect(usersCacheDirectory({ XDG_CACHE_HOME: said }, "/home/me")).toBe(path);
});
