/** The verbs, one file each. @module */
import type { Command } from "./command.ts";

export const COMMANDS: readonly Command[] = [];
