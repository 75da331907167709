import { testBlobStore } from "./contract.ts";
import { MemoryStore } from "./memory.ts";

testBlobStore("MemoryStore", async () => {
  const store = new MemoryStore();
  return { store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
});
