/** Leases: what is made under one is safe from containerd's garbage collector until it ends. @module */

import { randomUUID } from "node:crypto";
import type { ContainerdClient } from "./client.ts";
import { Leases } from "./gen/leases_pb.ts";

/** Should this process be killed, the collector takes the lease and what it held after a day. */
const EXPIRES_MS = 24 * 60 * 60 * 1000;

export interface Lease extends AsyncDisposable {
  /** Whatever its calls make belongs to the lease. */
  readonly client: ContainerdClient;
}

/** What nothing else refers to when it ends goes. */
export async function openLease(
  client: ContainerdClient,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Lease> {
  const id = `nydus-tool-${randomUUID()}`;
  const labels = { "containerd.io/gc.expire": new Date(Date.now() + EXPIRES_MS).toISOString() };
  await client.call("create a lease", () => client.service(Leases).create({ id, labels }, options));
  return {
    client: client.underLease(id),
    async [Symbol.asyncDispose]() {
      // No signal: an interrupted pull must not leave its lease.
      await client.call("end a lease", () => client.service(Leases).delete({ id, sync: true }));
    },
  };
}

/** Run work under a lease of its own, which ends with it, whether it succeeds or not. */
export async function withLease<T>(
  client: ContainerdClient,
  work: (leased: ContainerdClient) => Promise<T>,
  options: { readonly signal?: AbortSignal } = {},
): Promise<T> {
  await using lease = await openLease(client, options);
  return await work(lease.client);
}
