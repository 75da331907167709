/**
 * Trees for tests: a small one with everything in it, and random ones.
 *
 * @module
 */
import fc from "fast-check";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { sha256 } from "../base/digest.ts";
import { dumpTree } from "../tree/dump.ts";
import type { Attributes, BlobRef, ChunkRef, Directory, Node } from "../tree/tree.ts";
import { directory } from "../tree/tree.ts";
import type { BlobInfo } from "./blob-table.ts";
import { UNKNOWN_DIGEST } from "./chunk-record.ts";
import { BLOB_FEATURES } from "./flags.ts";
import type { WriteOptions } from "./writer.ts";

export const CHUNK_SIZE = 4096;

const b = byteStringOf;

export function attributes(rest: Partial<Attributes> = {}): Attributes {
  return { mode: 0o644, uid: 0, gid: 0, mtime: 1_700_000_000, mtimeNs: 0, xattrs: new Map(), ...rest };
}

/** Hands out chunks as a blob writer would: one behind the other, each distinct content once. */
export class FakeBlobs {
  readonly blobs: readonly BlobRef[];
  readonly #chunks: Map<string, ChunkRef>[];
  readonly #ends: [uncompressed: number, compressed: number][];

  constructor(count = 2) {
    this.blobs = Array.from({ length: count }, (_, i) => ({ id: i.toString(16).repeat(64).slice(0, 64) }));
    this.#chunks = this.blobs.map(() => new Map());
    this.#ends = this.blobs.map(() => [0, 0]);
  }

  /** @param content names what is in the chunk; equal contents of one size are one chunk */
  chunk(blobIndex: number, size: number, content: string): ChunkRef {
    const i = blobIndex % this.blobs.length;
    const known = this.#chunks[i];
    const ends = this.#ends[i];
    const blob = this.blobs[i];
    if (known === undefined || ends === undefined || blob === undefined) throw new Error("no such blob");
    const key = `${size} ${content}`;
    const compressed = size > 100;
    const compressedSize = compressed ? Math.ceil(size / 2) : size;
    const found: ChunkRef = known.get(key) ?? {
      blob,
      index: known.size,
      compressedOffset: ends[1],
      compressedSize,
      uncompressedOffset: ends[0],
      uncompressedSize: size,
      compressed,
      digest: sha256(Buffer.from(key)),
      crc: known.size + 1,
    };
    if (!known.has(key)) {
      known.set(key, found);
      ends[0] += Math.ceil(size / 4096) * 4096;
      ends[1] += compressedSize;
    }
    return found;
  }

  file(size: number, rest: { blob?: number; content?: string; attributes?: Attributes } = {}): Node {
    const count = Math.ceil(size / CHUNK_SIZE);
    const chunks = Array.from({ length: count }, (_, i) =>
      this.chunk(rest.blob ?? 0, Math.min(CHUNK_SIZE, size - i * CHUNK_SIZE), `${rest.content ?? size} ${i}`),
    );
    return { kind: "file", attributes: rest.attributes ?? attributes(), size, chunks };
  }

  info(ref: BlobRef): BlobInfo {
    const i = this.blobs.indexOf(ref);
    const [uncompressedSize = 0, dataSize = 0] = this.#ends[i] ?? [];
    const chunkCount = this.#chunks[i]?.size ?? 0;
    const features = BLOB_FEATURES.aligned | BLOB_FEATURES.capTarToc | BLOB_FEATURES.tarHeaders;
    return {
      id: ref.id,
      index: 0,
      chunkCount,
      compressor: "zstd",
      digester: "sha256",
      features: features | BLOB_FEATURES.inlinedDigests | BLOB_FEATURES.toc,
      compressedSize: dataSize + 10_000,
      uncompressedSize,
      tocSize: 0,
      tocDigest: new Uint8Array(32),
      ciCompressor: "none",
      ciOffset: dataSize + 512,
      ciCompressedSize: chunkCount * 16,
      ciUncompressedSize: chunkCount * 16,
      metaDigest: new Uint8Array(32),
      metaSize: 0,
    };
  }

  get options(): WriteOptions {
    return {
      chunkSize: CHUNK_SIZE,
      compressor: "zstd",
      digester: "sha256",
      blobs: (ref) => this.info(ref),
    };
  }
}

export interface Sample {
  readonly root: Directory;
  readonly blobs: FakeBlobs;
}

/** The same trees with their files where a tar has them: behind a header each, side by side. */
export function overTars({ root, blobs }: Sample): { root: Directory; options: WriteOptions } {
  const ends = new Map(blobs.blobs.map((blob) => [blob, { size: 0, chunks: 0 }]));
  const moved = new Map<Node, Node>();
  const visit = (dir: Directory): Directory => ({
    ...dir,
    entries: new Map(
      [...dir.entries].map(([name, node]): [ByteString, Node] => {
        const placed = moved.get(node) ?? (node.kind === "directory" ? visit(node) : inTar(node, ends));
        moved.set(node, placed);
        return [name, placed];
      }),
    ),
  });
  const info = (ref: BlobRef): BlobInfo => {
    const { size = 0, chunks: chunkCount = 0 } = ends.get(ref) ?? {};
    const features = BLOB_FEATURES.tarfs | BLOB_FEATURES.capTarToc;
    const empty = { ciOffset: 0, ciCompressedSize: 0, ciUncompressedSize: 0 };
    const sizes = { compressedSize: size, uncompressedSize: size };
    return { ...blobs.info(ref), ...empty, ...sizes, chunkCount, features, compressor: "none" };
  };
  const placed = visit(root);
  return {
    root: placed,
    options: { ...blobs.options, compressor: "none", tarfs: true, blobs: info },
  };
}

function inTar(node: Node, ends: ReadonlyMap<BlobRef, { size: number; chunks: number }>): Node {
  const [first] = node.kind === "file" ? node.chunks : [];
  const end = first && ends.get(first.blob);
  if (node.kind !== "file" || end === undefined) return node;
  let at = end.size + 512;
  const chunks = node.chunks.map((chunk): ChunkRef => {
    const { uncompressedSize } = chunk;
    const place = { uncompressedOffset: at, compressedOffset: at, compressedSize: uncompressedSize };
    at += uncompressedSize;
    return { ...chunk, ...place, index: end.chunks++, compressed: false, digest: UNKNOWN_DIGEST, crc: 0 };
  });
  end.size = Math.ceil(at / 512) * 512;
  return { ...node, chunks };
}

/** One of each kind of node, a hard link, xattrs, a directory of several blocks, chunks side by side and shared. */
export function sampleTree(): Sample {
  const blobs = new FakeBlobs();
  const root = directory(attributes({ mode: 0o755 }));
  const linked = blobs.file(5000, {
    attributes: attributes({ mode: 0o4755, mtime: -3, mtimeNs: 999_999_999 }),
  });
  const capability = Uint8Array.of(1, 0, 0, 2, 0x0a, 4, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0);
  const xattrs = new Map([
    [b("user.note"), new Uint8Array()],
    [b("security.capability"), capability],
    [b("trusted.binary"), Uint8Array.of(0, 0x0a, 0xff, 0x80)],
    [b("system.posix_acl_access"), new Uint8Array(28)],
  ]);
  const many = directory(attributes({ mode: 0o1777, xattrs }));
  for (let i = 0; i < 400; i++)
    many.entries.set(b(`${"n".repeat(i % 60)}-${i}`), blobs.file(i, { content: "same" }));
  const nodes: [string, Node][] = [
    ["!before-dot", blobs.file(0)],
    ["big", blobs.file(3 * CHUNK_SIZE + 1, { blob: 1 })],
    ["capable", blobs.file(1, { attributes: attributes({ xattrs }) })],
    ["char", { kind: "char", attributes: attributes(), major: 511, minor: 70_000 }],
    ["block", { kind: "block", attributes: attributes(), major: 7, minor: 9 }],
    ["fifo", { kind: "fifo", attributes: attributes({ mtime: 8_589_934_592 }) }],
    ["hard-1", linked],
    ["hard-2", linked],
    ["long-link", { kind: "symlink", attributes: attributes({ mode: 0o777 }), target: b("t".repeat(4095)) }],
    ["link", { kind: "symlink", attributes: attributes({ mode: 0o777 }), target: b("many/x") }],
    ["many", many],
    ["\xff\xfe" as ByteString, blobs.file(10, { content: "binary name" })],
  ];
  for (const [name, node] of nodes) root.entries.set(name as ByteString, node);
  return { root, blobs };
}

const nameArbitrary = fc
  .uint8Array({ minLength: 1, maxLength: 40 })
  .map((bytes) => Buffer.from(bytes).toString("latin1").replace(/[/\0]/g, "-") as ByteString)
  .filter((name) => name !== "." && name !== "..");

const attributesArbitrary: fc.Arbitrary<Attributes> = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.integer({ min: 0, max: 0xffff_ffff }),
  gid: fc.integer({ min: 0, max: 0xffff_ffff }),
  mtime: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
  mtimeNs: fc.integer({ min: 0, max: 999_999_999 }),
  xattrs: fc
    .array(
      fc.tuple(
        nameArbitrary.map((name) => b("user.") + name),
        fc.uint8Array({ maxLength: 3000 }),
      ),
      { maxLength: 2 },
    )
    .map((pairs) => new Map(pairs as [ByteString, Uint8Array][])),
});

type Entries = readonly (readonly [ByteString, readonly [Attributes, Plan]])[];
type Plan =
  | { readonly kind: "file"; readonly size: number; readonly blob: number; readonly content: string }
  | { readonly kind: "symlink"; readonly target: string }
  | { readonly kind: "char" | "block"; readonly major: number; readonly minor: number }
  | { readonly kind: "fifo" | "socket" }
  | { readonly kind: "again" }
  | { readonly kind: "directory"; readonly entries: Entries };

const { plan } = fc.letrec<{ plan: Plan }>((tie) => ({
  plan: fc.oneof(
    { maxDepth: 4, depthSize: "medium" },
    fc.record({
      kind: fc.constant("file" as const),
      size: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5 * CHUNK_SIZE })),
      blob: fc.integer({ min: 0, max: 1 }),
      content: fc.constantFrom("a", "b", "c", "d"),
    }),
    fc.record({ kind: fc.constant("symlink" as const), target: fc.stringMatching(/^[a-z]{1,300}$/) }),
    fc.record({
      kind: fc.constantFrom("char" as const, "block" as const),
      major: fc.integer({ min: 0, max: 4095 }),
      minor: fc.integer({ min: 0, max: 0xfffff }),
    }),
    fc.record({ kind: fc.constantFrom("fifo" as const, "socket" as const) }),
    fc.record({ kind: fc.constant("again" as const) }),
    fc.record({
      kind: fc.constant("directory" as const),
      entries: fc.array(fc.tuple(nameArbitrary, fc.tuple(attributesArbitrary, tie("plan"))), {
        maxLength: 12,
      }),
    }),
  ),
}));

/** Any tree that an image can hold, with hard links. */
export const treeArbitrary: fc.Arbitrary<Sample> = fc
  .tuple(
    attributesArbitrary,
    fc.array(fc.tuple(nameArbitrary, fc.tuple(attributesArbitrary, plan)), { maxLength: 15 }),
  )
  .map(([rootAttributes, entries]) => {
    const blobs = new FakeBlobs();
    let last: Node = blobs.file(1);
    const build = (attributes: Attributes, wanted: Plan): Node => {
      if (wanted.kind === "again") return last;
      if (wanted.kind === "directory") return fill(directory(attributes), wanted.entries);
      last =
        wanted.kind === "file"
          ? blobs.file(wanted.size, { ...wanted, attributes })
          : wanted.kind === "symlink"
            ? { kind: "symlink", attributes, target: b(wanted.target) }
            : { attributes, ...wanted };
      return last;
    };
    const fill = (dir: Directory, list: Entries): Directory => {
      for (const [name, [attributes, wanted]] of list) dir.entries.set(name, build(attributes, wanted));
      return dir;
    };
    return { root: fill(directory(rootAttributes), entries), blobs };
  });

/** What two equal trees have in common: the dump, which names share a node, and each file's chunks. */
export function factsOf(root: Directory): unknown {
  const first = new Map<Node, string>();
  const files: unknown[] = [];
  const visit = (dir: Directory, path: string): void => {
    for (const [name, node] of [...dir.entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const where = `${path}/${name}`;
      if (node.kind === "directory") visit(node, where);
      else {
        if (!first.has(node)) first.set(node, where);
        const chunks = node.kind === "file" ? node.chunks.map(shown) : [];
        files.push([where, first.get(node), ...chunks]);
      }
    }
  };
  visit(root, "");
  return { dump: [...dumpTree(root)], files };
}

function shown({ blob, digest, ...rest }: ChunkRef): string {
  return JSON.stringify({ blob: blob.id, digest: Buffer.from(digest).toString("hex"), ...rest });
}
