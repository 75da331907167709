/**
 * On-disk records as tables: a record is declared once, and reading, writing, dumping and checking use the
 * declaration. Little endian throughout.
 *
 * @module
 */
import { corrupt } from "./error.ts";

export interface Field<T> {
  readonly offset: number;
  readonly size: number;
  read(view: DataView, at: number): T;
  write(view: DataView, at: number, value: T): void;
}

export const u8 = (offset: number): Field<number> => ({
  offset,
  size: 1,
  read: (view, at) => view.getUint8(at + offset),
  write: (view, at, value) => view.setUint8(at + offset, value),
});

export const u16 = (offset: number): Field<number> => ({
  offset,
  size: 2,
  read: (view, at) => view.getUint16(at + offset, true),
  write: (view, at, value) => view.setUint16(at + offset, value, true),
});

export const u32 = (offset: number): Field<number> => ({
  offset,
  size: 4,
  read: (view, at) => view.getUint32(at + offset, true),
  write: (view, at, value) => view.setUint32(at + offset, value, true),
});

/** A u64 that must fit a safe integer, as every offset and size we accept does. */
export const u64 = (offset: number): Field<number> => ({
  offset,
  size: 8,
  read(view, at) {
    const value = view.getUint32(at + offset + 4, true) * 0x1_0000_0000 + view.getUint32(at + offset, true);
    if (!Number.isSafeInteger(value))
      throw corrupt(`Cannot read a 64-bit field at ${at + offset}: value is past 2^53`);
    return value;
  },
  write(view, at, value) {
    view.setUint32(at + offset, value % 0x1_0000_0000, true);
    view.setUint32(at + offset + 4, Math.floor(value / 0x1_0000_0000), true);
  },
});

/** A u64 whose whole range matters (flags, nonces). */
export const u64big = (offset: number): Field<bigint> => ({
  offset,
  size: 8,
  read: (view, at) => view.getBigUint64(at + offset, true),
  write: (view, at, value) => view.setBigUint64(at + offset, value, true),
});

/** Fixed-size bytes; reading gives a view of the record's memory, writing pads with zeros. */
export const bytes = (offset: number, size: number): Field<Uint8Array> => ({
  offset,
  size,
  read: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at + offset, size),
  write(view, at, value) {
    const room = new Uint8Array(view.buffer, view.byteOffset + at + offset, size);
    room.fill(0);
    room.set(value.subarray(0, size));
  },
});

type Fields = Readonly<Record<string, Field<number> | Field<bigint> | Field<Uint8Array>>>;
export type RecordOf<F extends Fields> = {
  -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
};

export interface Struct<F extends Fields> {
  /** Bytes of one record. */
  readonly size: number;
  readonly fields: F;
  read(view: DataView, at?: number): RecordOf<F>;
  /** Fields left out are written as zero, and so is everything between fields. */
  write(view: DataView, at: number, values: Partial<RecordOf<F>>): void;
  encode(values: Partial<RecordOf<F>>): Uint8Array;
}

export function struct<F extends Fields>(size: number, fields: F): Struct<F> {
  for (const [name, field] of Object.entries(fields)) {
    if (field.offset + field.size > size)
      throw new RangeError(`Cannot declare field "${name}": it ends past ${size}`);
  }
  const entries = Object.entries(fields) as [string, Field<unknown>][];
  const write = (view: DataView, at: number, values: Partial<RecordOf<F>>): void => {
    new Uint8Array(view.buffer, view.byteOffset + at, size).fill(0);
    for (const [name, field] of entries) {
      const value = (values as Record<string, unknown>)[name];
      if (value !== undefined) field.write(view, at, value);
    }
  };
  return {
    size,
    fields,
    read(view, at = 0) {
      const record: Record<string, unknown> = {};
      for (const [name, field] of entries) record[name] = field.read(view, at);
      return record as RecordOf<F>;
    },
    write,
    encode(values) {
      const out = new Uint8Array(size);
      write(new DataView(out.buffer), 0, values);
      return out;
    },
  };
}

/** A DataView over exactly the bytes of an array. */
export function viewOf(array: Uint8Array): DataView {
  return new DataView(array.buffer, array.byteOffset, array.byteLength);
}
