/**
 * Content digests: OCI's `sha256:<hex>` strings, and the raw 32-byte digests of RAFS chunks.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createBLAKE3, type IHasher } from "hash-wasm";
import { NydusError } from "./error.ts";

declare const digestBrand: unique symbol;

/** An OCI digest: algorithm, colon, lowercase hex. Only sha256 is accepted. */
export type Digest = string & { readonly [digestBrand]: true };

const DIGEST = /^sha256:[0-9a-f]{64}$/;

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

export function parseDigest(text: string, where: string): Digest {
  if (isDigest(text)) return text;
  throw new NydusError(
    "corrupt",
    `Cannot use digest "${text.slice(0, 100)}" of ${where}: it is not sha256:<64 hex digits>`,
  );
}

export function digestHex(digest: Digest): string {
  return digest.slice("sha256:".length);
}

export function digestFromHex(hex: string): Digest {
  return parseDigest(`sha256:${hex}`, "a blob id");
}

export function sha256(bytes: Uint8Array): Uint8Array {
  return new Bun.CryptoHasher("sha256").update(bytes).digest();
}

export function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}` as Digest;
}

/** Incremental OCI digest. */
export class Digester {
  readonly #hash = createHash("sha256");
  size = 0;

  update(bytes: Uint8Array): this {
    this.#hash.update(bytes);
    this.size += bytes.byteLength;
    return this;
  }

  finish(): Digest {
    return `sha256:${this.#hash.digest("hex")}` as Digest;
  }
}

/** Digest algorithms of RAFS chunks; the numbers are those on disk. */
export const CHUNK_DIGESTERS = { blake3: 0, sha256: 1 } as const;
export type ChunkDigester = keyof typeof CHUNK_DIGESTERS;

export interface ChunkHasher {
  readonly algorithm: ChunkDigester;
  /** 32 bytes. */
  digest(bytes: Uint8Array): Uint8Array;
}

/** BLAKE3 runs in WebAssembly, whose instantiation is asynchronous; hashing itself is not. */
export async function chunkHasher(algorithm: ChunkDigester): Promise<ChunkHasher> {
  if (algorithm === "sha256") return { algorithm, digest: sha256 };
  const blake3: IHasher = await createBLAKE3();
  return { algorithm, digest: (bytes) => blake3.init().update(bytes).digest("binary") };
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && Buffer.compare(a, b) === 0;
}
