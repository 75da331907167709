/**
 * Checks where devices lie in the flat address space behind the bootstrap: the kernel looks there for any address that
 * names no device, so a device over the bootstrap would show through it.
 *
 * @module
 */

import { deviceBlocks } from "./blob-table-reader.ts";
import type { Bootstrap } from "./bootstrap.ts";
import { type Report, TABLES } from "./check-report.ts";
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { SUPERBLOCK_OFFSET, superblock as superblockRecord } from "./superblock.ts";

export function checkDevices(image: Bootstrap, report: Report): void {
  const { blobs, mappedBlocks, superblock, bytes } = image;
  const { blockSize } = superblock;
  const total = blobs.reduce((sum, blob) => sum + deviceBlocks(blob, blockSize), 0);
  if (superblock.blocks !== total && !(blobs.length === 0 && superblock.blocks === blockSize))
    report.add(
      TABLES,
      SUPERBLOCK_OFFSET + superblockRecord.fields.blocks.offset,
      `the superblock counts ${superblock.blocks} blocks, the devices have ${total}`,
    );
  const ranges = blobs
    .map(({ uncompressedSize }, i) => ({
      i,
      start: (mappedBlocks[i] ?? 0) * blockSize,
      size: uncompressedSize,
    }))
    // Address 0 means that the device is in no flat space.
    .filter(({ start }) => start !== 0)
    .sort((a, b) => a.start - b.start);
  let end = bytes.length;
  for (const { i, start, size } of ranges) {
    if (start < end)
      report.add(
        TABLES,
        SLOT_TABLE_OFFSET + i * deviceSlot.size,
        `device ${i} is mapped over the bootstrap or another device`,
      );
    end = Math.max(end, start + size);
  }
}
