/**
 * Encrypting what a blob stores: each stored unit by itself, with one key for the blob.
 *
 * @module
 */
import { hkdfSync, randomBytes } from "node:crypto";
import { NydusError } from "../base/error.ts";
import { decryptXts, encryptXts } from "../base/xts.ts";
import type { Cipher } from "../rafs/chunk-map.ts";

const KEY_SIZE = 32;
const IV_SIZE = 16;

/** Only stored forms of this size can be taken for something shorter that was padded. */
const AMBIGUOUS_SIZE = 18;

/**
 * A key that follows from what is encrypted, so that the same input gives the same bytes.
 *
 * @param secret known only to who has the data: the digest of the uncompressed layer. Without one the key is random
 * @param format all else that decides the blob's bytes: different bytes are not encrypted with one key
 */
export function cipherFor(secret: string | undefined, format: string): Cipher {
  if (secret === undefined) return { key: randomBytes(KEY_SIZE), iv: randomBytes(IV_SIZE) };
  const derived = hkdfSync("sha256", secret, "nydus-tool blob encryption", format, KEY_SIZE + IV_SIZE);
  const bytes = new Uint8Array(derived);
  return { key: bytes.slice(0, KEY_SIZE), iv: bytes.slice(KEY_SIZE) };
}

/** @throws unsupported for the few bytes that the format cannot hold */
export function encrypted(cipher: Cipher | undefined, stored: Uint8Array): Uint8Array {
  if (cipher === undefined) return stored;
  const bytes = encryptXts(cipher.key, cipher.iv, stored);
  if (
    stored.byteLength === AMBIGUOUS_SIZE &&
    decryptXts(cipher.key, cipher.iv, bytes).byteLength !== AMBIGUOUS_SIZE
  )
    throw new NydusError(
      "unsupported",
      "Cannot encrypt a chunk: its 18 bytes look like padding, which the format cannot tell from data",
    );
  return bytes;
}
