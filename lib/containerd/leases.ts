/** Leases: what is made under one is safe from containerd's garbage collector until it ends. @module */

import { randomUUID } from "node:crypto";
import type { ContainerdClient } from "./client.ts";
import { Leases } from "./gen/leases_pb.ts";

/** Should this process be killed, the collector takes the lease and what it held after a day. */
const EXPIRES_MS = 24 * 60 * 60 * 1000;

/**
 * Run work under a lease of its own, which ends with it, whether it succeeds or not: what nothing else refers to by
 * then goes.
 */
export async function withLease<T>(
  client: ContainerdClient,
  work: (leased: ContainerdClient) => Promise<T>,
  options: { readonly signal?: AbortSignal } = {},
): Promise<T> {
  const id = `nydus-tool-${randomUUID()}`;
  const labels = { "containerd.io/gc.expire": new Date(Date.now() + EXPIRES_MS).toISOString() };
  await client.call("create a lease", () => client.service(Leases).create({ id, labels }, options));
  try {
    return await work(client.underLease(id));
  } finally {
    // No signal: an interrupted pull must not leave its lease.
    await client.call("end a lease", () => client.service(Leases).delete({ id, sync: true }));
  }
}
