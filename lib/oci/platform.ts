/** Platforms: `os/architecture[/variant]`, and which manifest of an index serves one. @module */

import { NydusError } from "../base/error.ts";
import type { Descriptor, Platform } from "./descriptor.ts";

/** The names people and kernels use, and Go's, which images use. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  "x86-64": "amd64",
  x64: "amd64",
  aarch64: "arm64",
  i386: "386",
  ia32: "386",
  armhf: "arm",
  armel: "arm",
};

/** Variants that say nothing: the baseline of their architecture. */
const BASELINES: Readonly<Record<string, string>> = { arm64: "v8", amd64: "v1", arm: "v7" };

/** @throws usage when the text is not os/architecture[/variant] */
export function parsePlatform(text: string): Platform {
  const [os = "", architecture = "", variant, ...more] = text.toLowerCase().split("/");
  const word = /^[a-z0-9_.-]+$/;
  if (
    more.length > 0 ||
    !word.test(os) ||
    !word.test(architecture) ||
    (variant !== undefined && !word.test(variant))
  ) {
    throw new NydusError(
      "usage",
      `Cannot use platform "${text.slice(0, 100)}": it is not os/architecture[/variant]`,
    );
  }
  return {
    os,
    architecture: ARCHITECTURES[architecture] ?? architecture,
    ...(variant === undefined ? {} : { variant }),
  };
}

export function formatPlatform(platform: Platform): string {
  const variant = platform.variant === undefined || platform.variant === "" ? "" : `/${platform.variant}`;
  return `${platform.os}/${platform.architecture}${variant}`;
}

/** What runs here: containers are Linux whatever the host calls itself. */
export function hostPlatform(): Platform {
  return { os: "linux", architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

function variantOf(platform: Platform): string {
  return platform.variant || (BASELINES[platform.architecture] ?? "");
}

export function platformsMatch(wanted: Platform, have: Platform): boolean {
  const normal = (name: string): string => ARCHITECTURES[name] ?? name;
  return (
    wanted.os === have.os &&
    normal(wanted.architecture) === normal(have.architecture) &&
    variantOf(wanted) === variantOf(have)
  );
}

/** Manifests of an index that serve a platform, in the index's order. Those without a platform serve none. */
export function manifestsFor(manifests: readonly Descriptor[], wanted: Platform): readonly Descriptor[] {
  return manifests.filter(({ platform }) => platform !== undefined && platformsMatch(wanted, platform));
}
