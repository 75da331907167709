/** OCI content descriptors. Spec: image-spec/descriptor.md. @module */

import { type Digest, parseDigest } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";

export interface Platform {
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
  readonly "os.version"?: string;
  readonly "os.features"?: readonly string[];
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: Platform;
  readonly artifactType?: string;
  readonly urls?: readonly string[];
}

/** Check JSON that came from outside. `where` names the document for the error. */
export function parseDescriptor(value: unknown, where: string): Descriptor {
  if (typeof value !== "object" || value === null)
    throw corrupt(`Cannot read a descriptor in ${where}: not an object`);
  const { mediaType, digest, size, annotations, platform, artifactType } = value as Record<string, unknown>;
  if (typeof digest !== "string") throw corrupt(`Cannot read a descriptor in ${where}: it has no digest`);
  if (!Number.isSafeInteger(size) || (size as number) < 0) {
    throw corrupt(
      `Cannot read the descriptor of ${digest.slice(0, 80)} in ${where}: its size is not a count of bytes`,
    );
  }
  return {
    mediaType: typeof mediaType === "string" ? mediaType : "",
    digest: parseDigest(digest, where),
    size: size as number,
    ...(isStringRecord(annotations) ? { annotations } : {}),
    ...(isPlatform(platform) ? { platform } : {}),
    ...(typeof artifactType === "string" ? { artifactType } : {}),
  };
}

function isStringRecord(value: unknown): value is Record<string, string> {
  return (
    typeof value === "object" && value !== null && Object.values(value).every((v) => typeof v === "string")
  );
}

function isPlatform(value: unknown): value is Platform {
  if (typeof value !== "object" || value === null) return false;
  const { architecture, os, variant = "", "os.features": features = [] } = value as Record<string, unknown>;
  const isText = (part: unknown): boolean => typeof part === "string";
  return (
    isText(architecture) && isText(os) && isText(variant) && Array.isArray(features) && features.every(isText)
  );
}
