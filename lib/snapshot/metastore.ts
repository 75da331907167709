/**
 * What the snapshotter remembers, in SQLite: every change is one transaction, so a kill at any moment leaves either the
 * state before or the state after. Directories follow the rows (see `directories.ts`), never the other way round.
 *
 * Names are unique over all containerd namespaces. containerd takes care of that (it puts namespace and number in front
 * of every key), and its garbage collector lists and removes without saying a namespace.
 *
 * @module
 */
import { Database, type SQLQueryBindings } from "bun:sqlite";
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import type { SnapshotKind, Usage } from "../containerd/snapshots.ts";
import type { Labels, LayerKind } from "./labels.ts";

export interface Snapshot {
  readonly id: number;
  /** The key of an active snapshot or view, the name of a committed one. */
  readonly name: string;
  /** The parent's name; empty when it stands alone. */
  readonly parent: string;
  readonly kind: SnapshotKind;
  readonly layer: LayerKind;
  /** The containerd namespace that made it, as far as it said so. */
  readonly namespace: string | undefined;
  /** Of a bootstrap: the image reference, once known. */
  readonly reference: string | undefined;
  /** Of a data layer: its blob (hex). Of a bootstrap: the blobs it refers to, once it was mounted. */
  readonly blobs: readonly string[];
  readonly labels: Labels;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly updated: number;
  /** Measured at commit. */
  readonly usage: Usage;
}

export type NewSnapshot = Pick<Snapshot, "name" | "parent" | "kind" | "layer" | "labels"> &
  Partial<Pick<Snapshot, "namespace" | "reference" | "blobs">>;

const SCHEMA_VERSION = 1;
const SCHEMA = `
  CREATE TABLE snapshots (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    name      TEXT NOT NULL UNIQUE,
    parent    INTEGER REFERENCES snapshots (id),
    kind      TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
    layer     TEXT NOT NULL CHECK (layer IN ('plain', 'nydus-data', 'nydus-bootstrap')),
    namespace TEXT,
    reference TEXT,
    blobs     TEXT NOT NULL,
    labels    TEXT NOT NULL,
    created   INTEGER NOT NULL,
    updated   INTEGER NOT NULL,
    size      INTEGER NOT NULL DEFAULT 0,
    inodes    INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX snapshots_by_parent ON snapshots (parent);
`;

const SELECT = `
  SELECT s.*, coalesce(p.name, '') AS parentName FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent
`;

interface Row {
  readonly id: number;
  readonly name: string;
  readonly parentName: string;
  readonly kind: SnapshotKind;
  readonly layer: LayerKind;
  readonly namespace: string | null;
  readonly reference: string | null;
  readonly blobs: string;
  readonly labels: string;
  readonly created: number;
  readonly updated: number;
  readonly size: number;
  readonly inodes: number;
}

export class Metastore implements Disposable {
  readonly #db: Database;

  /** @throws busy when another process has it open */
  constructor(path: string) {
    try {
      this.#db = new Database(path, { create: true, strict: true });
      // Exclusive: a second snapshotter on the same state would be the end of it.
      this.#db.run("PRAGMA locking_mode = EXCLUSIVE");
      this.#db.run("PRAGMA journal_mode = WAL");
      // As durable as containerd's own store, or the two would disagree after a power cut.
      this.#db.run("PRAGMA synchronous = FULL");
      this.#db.run("PRAGMA foreign_keys = ON");
      this.#migrate(path);
    } catch (error) {
      throw openError(error, path);
    }
  }

  #migrate(path: string): void {
    this.#transaction(() => {
      const version = this.#db.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version;
      if (version === SCHEMA_VERSION) return;
      if (version !== 0)
        throw new NydusError("unsupported", `Cannot use "${path}": a newer nydus-tool wrote it (${version})`);
      this.#db.run(SCHEMA);
      this.#db.run(`PRAGMA user_version = ${SCHEMA_VERSION}`);
    });
  }

  #transaction<T>(work: () => T): T {
    return this.#db.transaction(work).immediate();
  }

  #one(where: string, ...values: SQLQueryBindings[]): Snapshot | undefined {
    const row = this.#db.query<Row, SQLQueryBindings[]>(`${SELECT} WHERE ${where}`).get(...values);
    return row === null ? undefined : snapshotOf(row);
  }

  find(name: string): Snapshot | undefined {
    return this.#one("s.name = ?", name);
  }

  /** @throws not_found */
  get(name: string): Snapshot {
    const found = this.find(name);
    if (found === undefined)
      throw new NydusError("not_found", `Cannot find snapshot "${name}": it does not exist`);
    return found;
  }

  byId(id: number): Snapshot | undefined {
    return this.#one("s.id = ?", id);
  }

  list(): readonly Snapshot[] {
    return this.#db.query<Row, []>(`${SELECT} ORDER BY s.id`).all().map(snapshotOf);
  }

  /** The parents of a snapshot, nearest first. */
  ancestors(id: number): readonly Snapshot[] {
    const rows = this.#db.query<Row, [number]>(`
      WITH RECURSIVE chain (id, depth) AS (
        SELECT parent, 1 FROM snapshots WHERE id = ? AND parent IS NOT NULL
        UNION ALL
        SELECT s.parent, depth + 1 FROM snapshots s JOIN chain c ON s.id = c.id WHERE s.parent IS NOT NULL
      )
      ${SELECT} JOIN chain c ON c.id = s.id ORDER BY c.depth
    `);
    return rows.all(id).map(snapshotOf);
  }

  /** Active snapshots and views somewhere above this one. */
  users(id: number): readonly Snapshot[] {
    const rows = this.#db.query<Row, [number]>(`
      WITH RECURSIVE above (id) AS (
        SELECT id FROM snapshots WHERE parent = ?
        UNION ALL
        SELECT s.id FROM snapshots s JOIN above a ON s.parent = a.id
      )
      ${SELECT} JOIN above a ON a.id = s.id WHERE s.kind <> 'committed' ORDER BY s.id
    `);
    return rows.all(id).map(snapshotOf);
  }

  /**
   * Add a snapshot. `prepare` makes its directory inside the transaction: when it throws, nothing was added.
   *
   * @throws exists, not_found (parent), usage (parent not committed)
   */
  create(snapshot: NewSnapshot, prepare: (created: Snapshot) => void = () => {}): Snapshot {
    return this.#transaction(() => {
      const parent = snapshot.parent === "" ? undefined : this.#parent(snapshot.parent);
      this.#mustNotExist(snapshot.name);
      const now = Date.now();
      const { lastInsertRowid } = this.#db.run(
        `INSERT INTO snapshots (name, parent, kind, layer, namespace, reference, blobs, labels, created, updated)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        [
          snapshot.name,
          parent?.id ?? null,
          snapshot.kind,
          snapshot.layer,
          snapshot.namespace ?? null,
          snapshot.reference ?? null,
          JSON.stringify(snapshot.blobs ?? []),
          JSON.stringify(snapshot.labels),
          now,
          now,
        ],
      );
      const created = this.byId(Number(lastInsertRowid));
      if (created === undefined) throw new NydusError("internal", `Cannot add snapshot "${snapshot.name}"`);
      prepare(created);
      return created;
    });
  }

  #parent(name: string): Snapshot {
    const parent = this.find(name);
    if (parent === undefined)
      throw new NydusError("not_found", `Cannot use parent snapshot "${name}": it does not exist`);
    if (parent.kind !== "committed")
      throw new NydusError("usage", `Cannot use parent snapshot "${name}": it is not committed`);
    return parent;
  }

  #mustNotExist(name: string): void {
    if (this.find(name) !== undefined)
      throw new NydusError("exists", `Cannot add snapshot "${name}": it already exists`);
  }

  /**
   * Turn an active snapshot into a committed one under another name. Labels are replaced, not inherited.
   *
   * @throws exists (name), not_found (key or parent), busy (not active), usage (another parent)
   */
  commit(
    key: string,
    name: string,
    change: Pick<Snapshot, "labels" | "usage"> & Partial<Pick<Snapshot, "parent" | "layer">>,
  ): Snapshot {
    return this.#transaction(() => {
      this.#mustNotExist(name);
      const active = this.get(key);
      if (active.kind !== "active")
        throw new NydusError("busy", `Cannot commit snapshot "${key}": it is not active`);
      const parent = change.parent ?? "";
      if (parent !== "" && active.parent !== "" && parent !== active.parent)
        throw new NydusError("usage", `Cannot commit snapshot "${key}": its parent is "${active.parent}"`);
      if (parent !== "" && active.parent === "")
        this.#db.run("UPDATE snapshots SET parent = ? WHERE id = ?", [this.#parent(parent).id, active.id]);
      const now = Date.now();
      this.#db.run(
        `UPDATE snapshots SET name = ?, kind = 'committed', layer = coalesce(?, layer), labels = ?, created = ?, updated = ?, size = ?,
         inodes = ? WHERE id = ?`,
        [
          ...[name, change.layer ?? null, JSON.stringify(change.labels), now, now],
          ...[change.usage.size, change.usage.inodes, active.id],
        ],
      );
      return this.get(name);
    });
  }

  /** @throws not_found, busy when it has children */
  remove(name: string): Snapshot {
    return this.#transaction(() => {
      const snapshot = this.get(name);
      const child = this.#one("s.parent = ?", snapshot.id);
      if (child !== undefined)
        throw new NydusError("busy", `Cannot remove snapshot "${name}": "${child.name}" is built on it`);
      this.#db.run("DELETE FROM snapshots WHERE id = ?", [snapshot.id]);
      return snapshot;
    });
  }

  /** @throws not_found */
  setLabels(name: string, change: (labels: Labels) => Labels): Snapshot {
    return this.#transaction(() => {
      const { id, labels } = this.get(name);
      const changed = JSON.stringify(change(labels));
      this.#db.run("UPDATE snapshots SET labels = ?, updated = ? WHERE id = ?", [changed, Date.now(), id]);
      return this.get(name);
    });
  }

  /** What was found out about an image after its bootstrap was made. */
  learn(id: number, found: { readonly reference?: string; readonly blobs?: readonly string[] }): void {
    this.#transaction(() => {
      if (found.reference !== undefined)
        this.#db.run("UPDATE snapshots SET reference = ? WHERE id = ?", [found.reference, id]);
      if (found.blobs !== undefined)
        this.#db.run("UPDATE snapshots SET blobs = ? WHERE id = ?", [JSON.stringify(found.blobs), id]);
    });
  }

  /** Closing twice is harmless. */
  close(): void {
    this.#db.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function snapshotOf(row: Row): Snapshot {
  const { parentName, namespace, reference, blobs, labels, size, inodes, ...rest } = row;
  return {
    id: rest.id,
    name: rest.name,
    parent: parentName,
    kind: rest.kind,
    layer: rest.layer,
    namespace: namespace ?? undefined,
    reference: reference ?? undefined,
    blobs: JSON.parse(blobs) as readonly string[],
    labels: JSON.parse(labels) as Labels,
    created: rest.created,
    updated: rest.updated,
    usage: { size, inodes },
  };
}

function openError(error: unknown, path: string): NydusError {
  if (isCode(error, "unsupported")) return error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code.startsWith("SQLITE_BUSY"))
    return new NydusError("busy", `Cannot open "${path}": another snapshotter uses it`, { cause: error });
  if (code === "SQLITE_NOTADB" || code.startsWith("SQLITE_CORRUPT"))
    return new NydusError("corrupt", `Cannot open "${path}": it is damaged`, { cause: error });
  return toNydusError(error, `open "${path}"`);
}
