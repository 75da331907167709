/**
 * CRC-32C (Castagnoli, "CRC-32/ISCSI"): polynomial 0x1EDC6F41 reflected, initial value and final XOR all ones. Eight
 * bytes a step.
 *
 * @module
 */

const POLYNOMIAL = 0x82f6_3b78;

/** Row r, entry b: the CRC of byte b followed by r zero bytes. */
function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let at = 256; at < tables.length; at++) {
    const shorter = tables[at - 256] ?? 0;
    tables[at] = (shorter >>> 8) ^ (tables[shorter & 0xff] ?? 0);
  }
  return tables;
}

const TABLES = makeTables();

/** Unsigned. 0 is a possible value, though the format takes it for "absent". */
export function crc32c(data: Uint8Array): number {
  const table = (row: number, byte: number): number => TABLES[row * 256 + byte] as number;
  const byte = (at: number): number => data[at] as number;
  const whole = data.byteLength & ~7;
  let crc = -1;
  let at = 0;
  for (; at < whole; at += 8) {
    const low = crc ^ (byte(at) | (byte(at + 1) << 8) | (byte(at + 2) << 16) | (byte(at + 3) << 24));
    crc =
      table(7, low & 0xff) ^
      table(6, (low >>> 8) & 0xff) ^
      table(5, (low >>> 16) & 0xff) ^
      table(4, low >>> 24) ^
      table(3, byte(at + 4)) ^
      table(2, byte(at + 5)) ^
      table(1, byte(at + 6)) ^
      table(0, byte(at + 7));
  }
  for (; at < data.byteLength; at++) crc = table(0, (crc ^ byte(at)) & 0xff) ^ (crc >>> 8);
  return ~crc >>> 0;
}
