import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeHeaders, HpackDecoder } from "./hpack.ts";
import { decodeHuffman } from "./huffman.ts";

const hex = (text: string): Uint8Array => Buffer.from(text.replaceAll(" ", ""), "hex");

test("HpackDecoder reads the requests of RFC 7541 C.3, plain", () => {
  const decoder = new HpackDecoder();
  const first = [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
  ];
  expect(decoder.decode(hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"))).toEqual(first);
  expect(decoder.decode(hex("8286 84be 5808 6e6f 2d63 6163 6865"))).toEqual([
    ...first,
    ["cache-control", "no-cache"],
  ]);
});

test("HpackDecoder reads the requests of RFC 7541 C.4, in Huffman code with a growing table", () => {
  const decoder = new HpackDecoder();
  const authority = [":authority", "www.example.com"];
  expect(decoder.decode(hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"))).toEqual([
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    authority,
  ]);
  expect(decoder.decode(hex("8286 84be 5886 a8eb 1064 9cbf"))).toEqual([
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    authority,
    ["cache-control", "no-cache"],
  ]);
  expect(decoder.decode(hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"))).toEqual([
    [":method", "GET"],
    [":scheme", "https"],
    [":path", "/index.html"],
    authority,
    ["custom-key", "custom-value"],
  ]);
});

test("HpackDecoder forgets the oldest entries when its table is full, and all when told to", () => {
  const decoder = new HpackDecoder();
  const long = "v".repeat(2000); // two of them fit into 4096 bytes
  const literal = (name: string): Uint8Array => {
    const block = Buffer.from(encodeHeaders([[name, long]]));
    block[0] = 0x40; // to be indexed
    return block;
  };
  for (const name of ["a", "b", "c"]) decoder.decode(literal(name));
  expect(decoder.decode(hex("be"))).toEqual([["c", long]]);
  expect(decoder.decode(hex("bf"))).toEqual([["b", long]]);
  expect(() => decoder.decode(hex("c0"))).toThrow(expect.objectContaining({ code: "corrupt" }));
  decoder.decode(hex("20"));
  expect(() => decoder.decode(hex("be"))).toThrow(expect.objectContaining({ code: "corrupt" }));
});

test.each([
  ["an index of nothing", "80"],
  ["an index past the table", "be"],
  ["a name that is cut short", "400a6375"],
  ["a missing value", "4001 61"],
  ["a number without end", "ffffffffffffff"],
  ["a larger table than was offered", "3fe2ff03"],
  ["padding that is not ones", "4001 61 81 18"],
  ["padding of a whole byte", "4001 61 82 1fff"],
])("HpackDecoder refuses %s", (_, block) => {
  expect(() => new HpackDecoder().decode(hex(block))).toThrow(expect.objectContaining({ code: "corrupt" }));
});

test("HpackDecoder refuses headers that expand beyond measure", () => {
  const decoder = new HpackDecoder();
  const literal = Buffer.from(encodeHeaders([["a", "v".repeat(3000)]]));
  literal[0] = 0x40;
  decoder.decode(literal);
  expect(() => decoder.decode(new Uint8Array(100).fill(0xbe))).toThrow(
    expect.objectContaining({ code: "corrupt" }),
  );
});

const fields = fc.array(
  fc.tuple(fc.string(), fc.string()).map(([n, v]): [string, string] => [n, v]),
  { maxLength: 20 },
);

test("HpackDecoder reads what encodeHeaders() writes", () => {
  fc.assert(
    fc.property(fields, (list) => {
      expect(new HpackDecoder().decode(encodeHeaders(list))).toEqual(list);
    }),
  );
});

test("HpackDecoder either reads bytes or says corrupt", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        new HpackDecoder().decode(bytes);
      } catch (error) {
        expect(error).toMatchObject({ code: "corrupt" });
      }
    }),
  );
});

test("decodeHuffman() knows every byte", () => {
  // From RFC 7541 C.6.1 and C.4, and the longest codes: 0xf9, line feed.
  expect(decodeHuffman(hex("d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff"))).toBe(
    "Mon, 21 Oct 2013 20:13:21 GMT",
  );
  expect(decodeHuffman(hex("9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"))).toBe("https://www.example.com");
  expect(decodeHuffman(hex("fffffff3"))).toBe("\n");
  expect(decodeHuffman(hex("ffffffef"))).toBe("\xf9");
});
