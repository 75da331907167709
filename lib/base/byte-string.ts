/**
 * Names, link targets and xattr keys inside images are bytes, not text. They are held as "byte strings": one UTF-16
 * unit a byte (latin-1). Such strings work as Map keys, and `<` compares them in byte order, which is the order EROFS
 * wants.
 *
 * @module
 */
declare const byteStringBrand: unique symbol;

export type ByteString = string & { readonly [byteStringBrand]: true };

export function byteString(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1") as ByteString;
}

/** Text (UTF-16) to the byte string of its UTF-8 form. */
export function byteStringOf(text: string): ByteString {
  return Buffer.from(text, "utf8").toString("latin1") as ByteString;
}

export function bytesOf(name: ByteString): Uint8Array {
  return Buffer.from(name, "latin1");
}

/** For people: UTF-8 where the bytes are valid UTF-8, otherwise with \xNN escapes. */
export function printable(name: ByteString): string {
  const text = Buffer.from(name, "latin1").toString("utf8");
  if (!text.includes("\ufffd")) return text;
  const shown = (c: string): string =>
    c >= " " && c < "\x7f" ? c : `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`;
  return [...name].map(shown).join("");
}
