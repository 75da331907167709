/**
 * Device slots: what EROFS knows about each blob. Slot i describes entry i of the blob table.
 *
 * @module
 */
import { bytes, struct, u32 } from "../base/struct.ts";

/** Linux `struct erofs_deviceslot`. */
export const deviceSlot = struct(128, {
  /** The blob id. */
  tag: bytes(0, 64),
  /** Of the uncompressed address space. */
  blocks: u32(64),
  /** Where the device begins in one flat address space behind the bootstrap, in blocks. */
  mappedBlock: u32(68),
});

/** The slots follow the superblocks directly; `devt_slotoff` counts in slots. */
export const SLOT_TABLE_OFFSET = 1408;
