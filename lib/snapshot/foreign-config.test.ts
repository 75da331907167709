import { expect, test } from "vitest";
import {
  isNydusSnapshotterConfig,
  nydusdConfigPath,
  readNydusdConfig,
  readNydusSnapshotterConfig,
} from "./foreign-config.ts";

test("readNydusSnapshotterConfig() takes over what there is here, and is silent about what needs no setting", () => {
  const parsed = Bun.TOML.parse(`
    version = 1
    root = "/srv/nydus"
    address = "/run/n.sock"
    daemon_mode = "dedicated"
    cleanup_on_close = false
    [daemon]
    nydusd_path = "/usr/local/bin/nydusd"
    nydusd_config = "/etc/nydus/nydusd-config.json"
    fs_driver = "fusedev"
    recover_policy = "restart"
    [log]
    level = "trace"
    log_to_stdout = false
    [metrics]
    address = ":9110"
    [remote]
    skip_ssl_verify = true
    [cache_manager]
    cache_dir = ""
    gc_period = "24h"
  `);
  expect(isNydusSnapshotterConfig(parsed)).toBe(true);
  expect(nydusdConfigPath(parsed)).toBe("/etc/nydus/nydusd-config.json");
  expect(readNydusSnapshotterConfig(parsed)).toEqual({
    settings: {
      root: "/srv/nydus",
      address: "/run/n.sock",
      "log-level": "debug",
      status: ":9110",
      insecure: true,
    },
    warnings: [],
  });
});

test.each([
  ["an unknown key", "daemon.colour = 1", '"daemon.colour" is not known'],
  ["a driver that is gone", 'daemon.fs_driver = "fscache"', '"daemon.fs_driver" is not supported: the best'],
  ["a signature check", "image.validate_signature = true", '"image.validate_signature" is NOT done'],
  ["a wrong type", "root = 5", '"root" is not a text'],
  ["a level of its own", 'log.level = "loud"', '"log.level" is no log level'],
  ["a name every object has", "toString = 1", '"toString" is not known'],
])("readNydusSnapshotterConfig() warns of %s", (_, line, warning) => {
  const { settings, warnings } = readNydusSnapshotterConfig(Bun.TOML.parse(`version = 1\n${line}\n`));
  expect(settings).toEqual({});
  expect(warnings).toEqual([expect.stringContaining(warning)]);
});

test("readNydusdConfig() takes the scheme and the cache, and never credentials", () => {
  const config = {
    device: {
      backend: {
        type: "registry",
        config: {
          scheme: "http",
          skip_verify: false,
          auth: "c2VjcmV0",
          timeout: 5,
          proxy: { url: "http://p" },
        },
      },
      cache: { type: "blobcache", config: { work_dir: "/srv/cache" } },
    },
    mode: "direct",
    digest_validate: false,
    enable_xattr: true,
    fs_prefetch: { enable: true, threads_count: 4 },
  };
  const { settings, warnings } = readNydusdConfig(config);
  expect(settings).toEqual({ "plain-http": true, "cache-dir": "/srv/cache" });
  expect(warnings.map((warning) => warning.split(" ")[0])).toEqual([
    '"device.backend.config.auth"',
    '"device.backend.config.proxy.url"',
    '"fs_prefetch.enable"',
  ]);
  expect(warnings.join()).not.toContain("c2VjcmV0");
});
