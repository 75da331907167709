/**
 * The snapshotter over gRPC, as containerd's proxy plugin speaks it: a unix socket, HTTP/2, one method a call.
 *
 * @module
 */
import { rm } from "node:fs/promises";
import type { Server } from "node:net";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { MEANINGS, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { type InfoSchema, Kind, Snapshots } from "../containerd/gen/snapshots_pb.ts";
import { createGrpcServer, type Fallback } from "../containerd/grpc/server.ts";
import type { Mount } from "../containerd/snapshots.ts";
import type { Snapshot } from "./metastore.ts";
import type { CreateRequest, Snapshotter } from "./snapshotter.ts";
import { listenPrivately } from "./socket.ts";

export const DEFAULT_SNAPSHOTTER_ADDRESS = "/run/containerd-nydus/containerd-nydus-grpc.sock";

/** Told about every finished call. `code` is the gRPC status in words. */
export type Observe = (operation: string, code: string, seconds: number) => void;

export interface ServiceOptions {
  readonly log: Logger;
  readonly observe?: Observe;
  /** Answers other services on the same socket. */
  readonly fallback?: Fallback;
}

/** Infos in one message of a list. */
const LIST_BATCH = 100;

function snapshotsRoutes(snapshotter: Snapshotter, options: ServiceOptions): (router: ConnectRouter) => void {
  const call = <T>(operation: string, subject: string, work: () => Promise<T>): Promise<T> =>
    observed(operation, subject, work, options);
  return (router) =>
    router.service(Snapshots, {
      prepare: (request, context) =>
        call("prepare", request.key, async () =>
          mountsMessage(await snapshotter.prepare(createRequest(request, context))),
        ),
      view: (request, context) =>
        call("view", request.key, async () =>
          mountsMessage(await snapshotter.view(createRequest(request, context))),
        ),
      mounts: ({ key }) => call("mounts", key, async () => mountsMessage(await snapshotter.mounts(key))),
      commit: ({ name, key, labels, parent }) =>
        call("commit", name, async () => {
          await snapshotter.commit({ name, key, labels, ...(parent === "" ? {} : { parent }) });
          return {};
        }),
      remove: ({ key }) =>
        call("remove", key, async () => {
          await snapshotter.remove(key);
          return {};
        }),
      stat: ({ key }) => call("stat", key, async () => ({ info: infoMessage(await snapshotter.stat(key)) })),
      update: ({ info, updateMask }) =>
        call("update", info?.name ?? "", async () => {
          const changed = await snapshotter.update(
            info?.name ?? "",
            info?.labels ?? {},
            updateMask?.paths ?? [],
          );
          return { info: infoMessage(changed) };
        }),
      async *list({ filters }) {
        const found = await call("list", "", () => snapshotter.list(filters));
        for (let at = 0; at < found.length; at += LIST_BATCH)
          yield { info: found.slice(at, at + LIST_BATCH).map(infoMessage) };
      },
      usage: ({ key }) =>
        call("usage", key, async () => {
          const { size, inodes } = await snapshotter.usage(key);
          return { size: BigInt(size), inodes: BigInt(inodes) };
        }),
      cleanup: () =>
        call("cleanup", "", async () => {
          await snapshotter.cleanup();
          return {};
        }),
    });
}

function createRequest(
  { key, parent, labels }: { key: string; parent: string; labels: Record<string, string> },
  context: HandlerContext,
): CreateRequest {
  const namespace = namespaceOfCall(context.requestHeader);
  return { key, parent, labels, ...(namespace === undefined ? {} : { namespace }) };
}

/** containerd 2's CRI plugin names it twice: fields of one name arrive as one, with commas. */
export function namespaceOfCall(header: Headers): string | undefined {
  const [first = ""] = (header.get("containerd-namespace") ?? "").split(",");
  return first.trim() === "" ? undefined : first.trim();
}

function mountsMessage(mounts: readonly Mount[]): {
  mounts: { type: string; source: string; options: string[] }[];
} {
  return { mounts: mounts.map(({ type, source, options }) => ({ type, source, options: [...options] })) };
}

const KINDS = { active: Kind.ACTIVE, view: Kind.VIEW, committed: Kind.COMMITTED } as const;

function infoMessage(snapshot: Snapshot): MessageInitShape<typeof InfoSchema> {
  return {
    name: snapshot.name,
    parent: snapshot.parent,
    kind: KINDS[snapshot.kind],
    createdAt: timestampFromMs(snapshot.created),
    updatedAt: timestampFromMs(snapshot.updated),
    labels: { ...snapshot.labels },
  };
}

/** Run one call: measured, logged when it fails for a reason of ours, its error given a gRPC code. */
async function observed<T>(
  operation: string,
  subject: string,
  work: () => Promise<T>,
  { log, observe }: ServiceOptions,
): Promise<T> {
  const start = performance.now();
  let code = "ok";
  try {
    return await work();
  } catch (error) {
    const known = toNydusError(error, `${operation} snapshot "${subject}"`);
    code = known.code;
    // Absent and existing snapshots are answers that containerd asks for.
    const level = known.code === "exists" || known.code === "not_found" ? "debug" : "error";
    log[level]("call failed", { operation, subject, error: known.message });
    const grpc: Code = MEANINGS[known.code].grpc;
    throw new ConnectError(known.message, grpc);
  } finally {
    const seconds = (performance.now() - start) / 1000;
    observe?.(operation, code, seconds);
    log.debug("call", { operation, subject, code, seconds });
  }
}

export interface SnapshotServer extends AsyncDisposable {
  readonly address: string;
}

/** Serve on a unix socket that only root may use. A socket that nobody listens on any more is replaced. */
export async function serveSnapshots(
  snapshotter: Snapshotter,
  address: string,
  options: ServiceOptions,
): Promise<SnapshotServer> {
  const grpc = createGrpcServer(snapshotsRoutes(snapshotter, options), options.fallback);
  await listenPrivately(address, (path) => listen(grpc.server, path));
  return {
    address,
    async [Symbol.asyncDispose]() {
      await grpc.close(CLOSE_MS);
      await rm(address, { force: true });
    },
  };
}

/** How long calls that are under way may take at the end. */
const CLOSE_MS = 5000;

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
