/**
 * Small ELF files for tests: 64 bits, little endian, with what a loader looks at and nothing else.
 *
 * @module
 */
export interface SampleElf {
  readonly interpreter?: string;
  readonly needed?: readonly string[];
  readonly rpath?: string;
  readonly runpath?: string;
  /** x86-64 unless it is said. */
  readonly machine?: number;
}

const HEADER = 64;
const SEGMENT = 56;
/** Where the file is mapped: addresses must be turned into offsets. */
const BASE = 0x40_0000;

export function sampleElf({ interpreter, needed = [], rpath, runpath, machine = 62 }: SampleElf): Uint8Array {
  let strings = "\0";
  const place = (text: string): bigint => {
    strings += `${text}\0`;
    return BigInt(strings.length - text.length - 1);
  };
  const entries: [bigint, bigint][] = needed.map((name) => [1n, place(name)]);
  if (rpath !== undefined) entries.push([15n, place(rpath)]);
  if (runpath !== undefined) entries.push([29n, place(runpath)]);
  const interpreterText = interpreter === undefined ? "" : `${interpreter}\0`;
  const segments = interpreter === undefined ? 2 : 3;
  const interpreterAt = HEADER + SEGMENT * segments;
  const dynamicAt = Math.ceil((interpreterAt + interpreterText.length) / 8) * 8;
  const dynamicSize = 16 * (entries.length + 2);
  const stringsAt = dynamicAt + dynamicSize;
  const size = stringsAt + strings.length;
  const file = Buffer.alloc(size);
  file.write("\x7fELF\x02\x01\x01", 0, "latin1");
  file.writeUInt16LE(machine, 18);
  file.writeBigUInt64LE(BigInt(HEADER), 32);
  file.writeUInt16LE(SEGMENT, 54);
  file.writeUInt16LE(segments, 56);
  const segment = (index: number, type: number, offset: number, length: number): void => {
    const at = HEADER + SEGMENT * index;
    file.writeUInt32LE(type, at);
    file.writeBigUInt64LE(BigInt(offset), at + 8);
    file.writeBigUInt64LE(BigInt(BASE + offset), at + 16);
    file.writeBigUInt64LE(BigInt(length), at + 32);
  };
  segment(0, 1, 0, size);
  segment(1, 2, dynamicAt, dynamicSize);
  if (interpreter !== undefined) segment(2, 3, interpreterAt, interpreterText.length);
  file.write(interpreterText, interpreterAt, "latin1");
  for (const [i, [tag, value]] of [...entries, [5n, BigInt(BASE + stringsAt)] as const].entries()) {
    file.writeBigUInt64LE(tag, dynamicAt + 16 * i);
    file.writeBigUInt64LE(value, dynamicAt + 16 * i + 8);
  }
  file.write(strings, stringsAt, "latin1");
  return file;
}
