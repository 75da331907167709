/** What people and metrics see of a cache. */
export interface CacheStatus {
  readonly directory: string;
  /** Bytes of data on disk, of all processes together, and the quota of the process that answers. */
  readonly bytes: number;
  readonly limit?: number;
  /** Since the process started: bytes that left for others, chunks read back, and those of them found damaged. */
  readonly evictedBytes: number;
  readonly checkedChunks: number;
  readonly damagedChunks: number;
  /** Why the last chunk could not be stored. Readers got it all the same. */
  readonly trouble?: string;
}
