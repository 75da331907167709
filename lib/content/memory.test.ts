import { testBlobStore } from "./contract.test-support.ts";
import { MemoryStore } from "./memory.test-support.ts";

testBlobStore("MemoryStore", async () => {
  const store = new MemoryStore();
  return { store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
});
