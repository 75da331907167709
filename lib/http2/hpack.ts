/**
 * HPACK header blocks (RFC 7541). Decoding is complete, because the peer chooses how it encodes; encoding is the
 * simplest form that is allowed: every field literal, nothing indexed, no Huffman code.
 *
 * @module
 */
import { corrupt } from "../base/error.ts";
import { decodeHuffman } from "./huffman.ts";

/** Bytes of names and values are latin-1 text; gRPC uses ASCII only. */
export type HeaderField = readonly [name: string, value: string];

/** Appendix A: name and value of indexes 1 to 61. */
const STATIC: readonly HeaderField[] = [
  ":authority",
  ":method GET",
  ":method POST",
  ":path /",
  ":path /index.html",
  ":scheme http",
  ":scheme https",
  ...["200", "204", "206", "304", "400", "404", "500"].map((status) => `:status ${status}`),
  "accept-charset",
  "accept-encoding gzip, deflate",
  ..."accept-language accept-ranges accept access-control-allow-origin age allow authorization".split(" "),
  ..."cache-control content-disposition content-encoding content-language content-length".split(" "),
  ..."content-location content-range content-type cookie date etag expect expires from host".split(" "),
  ..."if-match if-modified-since if-none-match if-range if-unmodified-since last-modified".split(" "),
  ..."link location max-forwards proxy-authenticate proxy-authorization range referer refresh".split(" "),
  ..."retry-after server set-cookie strict-transport-security transfer-encoding user-agent".split(" "),
  ..."vary via www-authenticate".split(" "),
].map((entry): HeaderField => {
  const space = entry.indexOf(" ");
  return space < 0 ? [entry, ""] : [entry.slice(0, space), entry.slice(space + 1)];
});

/** Section 4.1: what an entry counts besides its text. */
const ENTRY_OVERHEAD = 32;
/** We never announce another size than the default. */
const TABLE_SIZE = 4096;
/** Text of one header block; gRPC metadata is small. */
const BLOCK_LIMIT = 64 * 1024;

/** Holds the dynamic table: one decoder a connection, blocks in their order on the wire. */
export class HpackDecoder {
  /** Newest first. */
  readonly #table: HeaderField[] = [];
  #size = 0;
  #limit = TABLE_SIZE;

  /** @throws corrupt; the connection cannot go on then */
  decode(block: Uint8Array): HeaderField[] {
    const reader = new BlockReader(block);
    const fields: HeaderField[] = [];
    let text = 0;
    while (!reader.atEnd()) {
      const field = this.#field(reader);
      if (field === undefined) continue;
      text += entrySize(field);
      if (text > BLOCK_LIMIT) throw corrupt(`Cannot read headers: they have more than ${BLOCK_LIMIT} bytes`);
      fields.push(field);
    }
    return fields;
  }

  #field(reader: BlockReader): HeaderField | undefined {
    const first = reader.peek();
    if (first & 0x80) return this.#entry(reader.integer(7));
    if (first & 0x40) return this.#add(this.#literal(reader, 6));
    if (first & 0x20) return this.#resize(reader.integer(5));
    return this.#literal(reader, 4); // not indexed, or never to be
  }

  #literal(reader: BlockReader, prefix: number): HeaderField {
    const index = reader.integer(prefix);
    const name = index === 0 ? reader.text() : this.#entry(index)[0];
    return [name, reader.text()];
  }

  #entry(index: number): HeaderField {
    const entry = index <= STATIC.length ? STATIC[index - 1] : this.#table[index - STATIC.length - 1];
    if (entry === undefined) throw corrupt(`Cannot read a header: there is no table entry ${index}`);
    return entry;
  }

  #add(field: HeaderField): HeaderField {
    this.#table.unshift(field);
    this.#size += entrySize(field);
    this.#evict();
    return field;
  }

  #resize(limit: number): undefined {
    if (limit > TABLE_SIZE) throw corrupt(`Cannot read headers: a table of ${limit} bytes was never offered`);
    this.#limit = limit;
    this.#evict();
  }

  #evict(): void {
    while (this.#size > this.#limit) {
      const oldest = this.#table.pop();
      if (oldest === undefined) break;
      this.#size -= entrySize(oldest);
    }
  }
}

function entrySize([name, value]: HeaderField): number {
  return name.length + value.length + ENTRY_OVERHEAD;
}

class BlockReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  atEnd(): boolean {
    return this.#at >= this.#bytes.byteLength;
  }

  peek(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw corrupt("Cannot read a header: it is cut short");
    return byte;
  }

  #next(): number {
    const byte = this.peek();
    this.#at++;
    return byte;
  }

  /** Section 5.1: the low bits of the first byte, then groups of seven. */
  integer(prefix: number): number {
    const most = 2 ** prefix - 1;
    let value = this.#next() & most;
    if (value < most) return value;
    for (let shift = 0; ; shift += 7) {
      if (shift > 21) throw corrupt("Cannot read a header: a number is too large");
      const byte = this.#next();
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
  }

  text(): string {
    const huffman = (this.peek() & 0x80) !== 0;
    const length = this.integer(7);
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    if (bytes.byteLength < length) throw corrupt("Cannot read a header: it is cut short");
    this.#at += length;
    return huffman ? decodeHuffman(bytes) : Buffer.from(bytes).toString("latin1");
  }
}

/** Names must be lower case (RFC 9113 8.2). */
export function encodeHeaders(fields: readonly HeaderField[]): Uint8Array {
  return Buffer.concat(
    fields.flatMap(([name, value]) => [NOT_INDEXED, ...encodedText(name), ...encodedText(value)]),
  );
}

const NOT_INDEXED = Uint8Array.of(0);

function encodedText(text: string): Uint8Array[] {
  const bytes = Buffer.from(text, "latin1");
  return [encodedInteger(bytes.byteLength, 7), bytes];
}

function encodedInteger(value: number, prefix: number): Uint8Array {
  const most = 2 ** prefix - 1;
  if (value < most) return Uint8Array.of(value);
  const bytes = [most];
  let rest = value - most;
  for (; rest >= 0x80; rest >>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}
