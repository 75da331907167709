/**
 * What one pass over a tarfs blob told, on disk, so that a node makes the pass once. A file that is torn, damaged or of
 * another kind says nothing: the pass is made again.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { compressChunk, decompressChunk } from "../base/compression.ts";
import { isCode, NydusError } from "../base/error.ts";
import { struct, u32, u64, viewOf } from "../base/struct.ts";
import { writeFileAtomically } from "../content/files.ts";
import type { GzipWindow } from "../rafs/chunk-map.ts";
import { decodeWindows, encodeWindows } from "./stored-unit.ts";
import { DIGEST_SIZE, type ScannedTar } from "./tar-scan.ts";

const MAGIC = 0x5241_544e;
const FORMS = { plain: 0, windows: 1, packed: 2 } as const;

/** The rest is compressed: digests, then windows with their dictionaries, or the sizes of packed parts. */
const header = struct(40, {
  magic: u32(0),
  /** CRC-32 of all the file, with zeros here. */
  check: u32(4),
  parts: u32(8),
  form: u32(12),
  storedSize: u64(16),
  windows: u32(24),
  size: u64(32),
});

export async function writeTarNotes(path: string, scanned: ScannedTar): Promise<void> {
  const { digests, windows, packed, storedSize } = scanned;
  const more =
    windows !== undefined
      ? encodeWindows(windows)
      : new Uint8Array(packed?.buffer ?? new ArrayBuffer(0), packed?.byteOffset, packed?.byteLength);
  const body = Buffer.concat([digests, more]);
  const stored = compressChunk("zstd", body) ?? body;
  const head = header.encode({
    magic: MAGIC,
    parts: digests.byteLength / DIGEST_SIZE,
    form: windows !== undefined ? FORMS.windows : packed !== undefined ? FORMS.packed : FORMS.plain,
    storedSize,
    windows: windows?.length ?? 0,
    size: body.byteLength,
  });
  const file = Buffer.concat([head, stored]);
  header.fields.check.write(viewOf(file), 0, Bun.hash.crc32(file));
  await writeFileAtomically(path, file, { mode: 0o600 });
}

/** @returns undefined when there are none, or they are of other parts */
export function readTarNotes(path: string, parts: number): ScannedTar | undefined {
  try {
    const bytes = readFileSync(path);
    if (bytes.byteLength < header.size) return undefined;
    const head = header.read(viewOf(bytes));
    const stored = bytes.subarray(header.size);
    header.fields.check.write(viewOf(bytes), 0, 0);
    const sound = head.magic === MAGIC && head.parts === parts && head.check === Bun.hash.crc32(bytes);
    return sound ? decoded(head, stored) : undefined;
  } catch (error) {
    if (!(error instanceof NydusError) || isCode(error, "corrupt")) return undefined;
    throw error;
  }
}

function decoded(head: ReturnType<typeof header.read>, stored: Uint8Array): ScannedTar | undefined {
  const { parts, form, storedSize, windows: count, size } = head;
  const body =
    stored.byteLength === size
      ? Uint8Array.from(stored)
      : Uint8Array.from(decompressChunk("zstd", stored, size));
  const digests = body.subarray(0, parts * DIGEST_SIZE);
  const more = body.subarray(parts * DIGEST_SIZE);
  switch (form) {
    case FORMS.plain:
      return { storedSize, digests };
    case FORMS.windows: {
      const windows: readonly GzipWindow[] = decodeWindows(more, count, storedSize);
      return { storedSize, digests, windows };
    }
    case FORMS.packed:
      if (more.byteLength !== 4 * parts) return undefined;
      return { storedSize, digests, packed: new Uint32Array(more.slice().buffer) };
    default:
      return undefined;
  }
}
