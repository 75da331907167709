/**
 * A directory for blobs on their way to the target. It goes away with everything in it, however the work ends.
 *
 * @module
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toNydusError } from "../base/error.ts";

export class WorkDirectory implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** @param parent made if need be; without one the system's place for temporary files is used */
  static async create(parent?: string): Promise<WorkDirectory> {
    const place = parent ?? tmpdir();
    try {
      await mkdir(place, { recursive: true });
      return new WorkDirectory(await mkdtemp(join(place, "nydus-tool-")));
    } catch (error) {
      throw toNydusError(error, `create a work directory in "${place}"`);
    }
  }

  file(name: string): string {
    return join(this.path, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}
