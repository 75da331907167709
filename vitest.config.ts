import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: [
      "lib/**/*.test.ts",
      "ffi/**/*.test.ts",
      "cmd/**/*.test.ts",
      "scripts/**/*.test.ts",
      "tests/**/*.test.ts",
    ],
    // bun:ffi only works in threads; two machine-wide mounts at once are fine, each test has its own directories.
    pool: "threads",
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
