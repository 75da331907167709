/**
 * Records of units that are put together of pieces: a layer with a table of contents (eStargz, zstd:chunked) is made of
 * streams that end where its writer wanted, not where a file system's chunks do.
 *
 * The form is our own. It is written beside bootstraps that are made on this machine, and read like anything else.
 *
 * @module
 */
import { sha256 } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { bytes, struct, u8, u32, u64, viewOf } from "../base/struct.ts";
import { isVerified, type Piece, type PiecesUnit } from "../rafs/chunk-map.ts";

const unitRecord = struct(16, { storedSize: u32(0), size: u32(4), firstPiece: u32(8), pieces: u32(12) });

const pieceRecord = struct(56, {
  offset: u32(0),
  storedSize: u32(4),
  skip: u32(8),
  size: u32(12),
  digest: bytes(16, 32),
  hasDigest: u8(48),
});

/** What is held in memory for one unit, stored and expanded. A part of a stream cannot be verified alone. */
export const MAX_PIECES_UNIT = 64 * 2 ** 20;
export const MAX_PIECES = 512;

const NO_DIGEST = new Uint8Array(32);

/** The units, then all their pieces. */
export function encodePiecesUnits(units: readonly PiecesUnit[]): Uint8Array {
  let firstPiece = 0;
  const records = units.map(({ storedSize, size, pieces }) => {
    const record = unitRecord.encode({ storedSize, size, firstPiece, pieces: pieces.length });
    firstPiece += pieces.length;
    return record;
  });
  return Buffer.concat([...records, ...units.flatMap(({ pieces }) => pieces.map(encodePiece))]);
}

function encodePiece({ digest, ...rest }: Piece): Uint8Array {
  return pieceRecord.encode({
    ...rest,
    digest: digest ?? NO_DIGEST,
    hasDigest: digest === undefined ? 0 : 1,
  });
}

/** Digests are views of `area`. @throws corrupt */
export function decodePiecesUnits(area: Uint8Array, count: number): PiecesUnit[] {
  const piecesAt = count * unitRecord.size;
  if (piecesAt > area.byteLength)
    throw corrupt(`Cannot use compression information: ${count} units do not fit ${area.byteLength} bytes`);
  const view = viewOf(area);
  return Array.from({ length: count }, (_, i) => {
    const { storedSize, size, firstPiece, pieces } = unitRecord.read(view, i * unitRecord.size);
    const start = piecesAt + firstPiece * pieceRecord.size;
    if (pieces === 0 || pieces > MAX_PIECES || start + pieces * pieceRecord.size > area.byteLength)
      throw corrupt(`Cannot use unit ${i} of compression information: its pieces are nowhere`);
    const unit: PiecesUnit = {
      kind: "pieces",
      storedSize,
      size,
      pieces: Array.from({ length: pieces }, (_, k) => readPiece(view, start + k * pieceRecord.size)),
    };
    checkUnit(unit, i);
    return unit;
  });
}

function readPiece(view: DataView, at: number): Piece {
  const { hasDigest, digest, ...rest } = pieceRecord.read(view, at);
  return { ...rest, digest: hasDigest === 0 ? undefined : digest };
}

function checkUnit(unit: PiecesUnit, index: number): void {
  const { storedSize, size, pieces } = unit;
  const bad = (state: string): never => {
    throw corrupt(`Cannot use unit ${index} of compression information: ${state}`);
  };
  if (storedSize === 0 || storedSize > MAX_PIECES_UNIT || size === 0 || size > MAX_PIECES_UNIT)
    bad(`it has ${size} bytes, ${storedSize} stored`);
  let sum = 0;
  for (const piece of pieces) {
    if (piece.offset + piece.storedSize > storedSize || piece.storedSize === 0)
      bad("a piece lies past its end");
    if (piece.skip + piece.size > MAX_PIECES_UNIT) bad(`a piece has ${piece.size} bytes at ${piece.skip}`);
    sum += piece.size;
  }
  if (sum !== size) bad(`it has ${size} bytes, and its pieces ${sum}`);
  if (pieces.length > 1 && !isVerified(unit)) bad("pieces have no digests");
}

/** A chunk as it is cut out of a unit. */
export interface PiecedChunk {
  /** Of the unit in the layer. */
  readonly storedOffset: number;
  readonly unitOffset: number;
  readonly size: number;
}

/**
 * What stands for the digest of a chunk whose own digest nobody knows before it is fetched: images that describe such a
 * chunk in the same way mean the same bytes, since the description holds the pieces' digests. It is inverted, so that
 * no content can be made whose own digest it is.
 */
export function descriptionDigest({ pieces }: PiecesUnit, chunk: PiecedChunk): Uint8Array {
  const head = struct(16, { storedOffset: u64(0), unitOffset: u32(8), size: u32(12) }).encode({ ...chunk });
  const digest = sha256(Buffer.concat([head, ...pieces.map(encodePiece)]));
  return digest.map((byte) => ~byte);
}
