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
    address = "10.0.0.1:9110"
    [remote]
    skip_ssl_verify = true
    [cache_manager]
    cache_dir = ""
    gc_period = "24h"
    [experimental]
    enable_referrer_detect = true
  `);
  expect(isNydusSnapshotterConfig(parsed)).toBe(true);
  expect(nydusdConfigPath(parsed)).toBe("/etc/nydus/nydusd-config.json");
  expect(readNydusSnapshotterConfig(parsed)).toEqual({
    settings: {
      root: "/srv/nydus",
      address: "/run/n.sock",
      "log-level": "debug",
      status: "10.0.0.1:9110",
      insecure: true,
      "cache-grace": "86400s",
      referrers: true,
    },
    warnings: [],
  });
});

test("readNydusSnapshotterConfig() takes over sources of credentials that are enabled, and mirrors", () => {
  const auth = (enabled: boolean): object =>
    Bun.TOML.parse(`
      version = 1
      [remote.mirrors_config]
      dir = "/etc/nydus/certs.d"
      [remote.auth]
      enable_kubeconfig_keychain = ${enabled}
      kubeconfig_path = ""
      enable_cri_keychain = ${enabled}
      image_service_address = "/run/containerd/c.sock"
      enable_kubelet_credential_providers = ${enabled}
      credential_provider_config = "/etc/k/config.yaml"
      credential_provider_bin_dir = "/etc/k/bin"
      credential_renewal_interval = "1h"
    `);
  const always = { "hosts-dir": "/etc/nydus/certs.d", "image-service-address": "/run/containerd/c.sock" };
  const providers = {
    "credential-provider-config": "/etc/k/config.yaml",
    "credential-provider-bin-dir": "/etc/k/bin",
  };
  expect(readNydusSnapshotterConfig(auth(true))).toEqual({
    settings: { ...always, ...providers, kubeconfig: "default" },
    warnings: [],
  });
  expect(readNydusSnapshotterConfig(auth(false))).toEqual({ settings: always, warnings: [] });
});

test.each([
  ["an unknown key", "daemon.colour = 1", '"daemon.colour" is not known'],
  ["a driver that is gone", 'daemon.fs_driver = "fscache"', '"daemon.fs_driver" is not supported: the best'],
  ["a signature check", "image.validate_signature = true", '"image.validate_signature" is NOT done'],
  ["a wrong type", "root = 5", '"root" is not a text'],
  ["a level of its own", 'log.level = "loud"', '"log.level" is no log level'],
  ["what is no time", 'cache_manager.gc_period = "soon"', '"cache_manager.gc_period" is no time'],
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
          proxy: { url: "http://p", fallback: true, dragonfly_scheduler_endpoint: "http://s" },
        },
      },
      cache: { type: "blobcache", config: { work_dir: "/srv/cache" } },
    },
    mode: "direct",
    digest_validate: false,
    enable_xattr: true,
    fs_prefetch: { enable: true, threads_count: 4, bandwidth_rate: 1048576 },
  };
  const { settings, warnings } = readNydusdConfig(config);
  expect(settings).toEqual({
    "plain-http": true,
    "cache-dir": "/srv/cache",
    proxy: "http://p",
    "prefetch-bandwidth": "1048576",
  });
  expect(warnings.map((warning) => warning.split(" ")[0])).toEqual([
    '"device.backend.config.auth"',
    '"device.backend.config.proxy.dragonfly_scheduler_endpoint"',
    '"fs_prefetch.enable"',
  ]);
  expect(warnings.join()).not.toContain("c2VjcmV0");
});

test("readNydusdConfig() reads the second version as the first", () => {
  const config = {
    version: 2,
    id: "x",
    backend: { type: "registry", registry: { scheme: "http", host: "h", proxy: { url: "http://p" } } },
    cache: {
      type: "filecache",
      validate: true,
      prefetch: { enable: false, threads: 4, batch_size: 1 },
      filecache: { work_dir: "/srv/cache" },
    },
    rafs: { mode: "direct", batch_size: 1, validate: true, enable_xattr: true, prefetch: { threads: 1 } },
    overlay: { upper_dir: "/u" },
  };
  const { settings, warnings } = readNydusdConfig(config);
  expect(settings).toEqual({ "plain-http": true, "cache-dir": "/srv/cache", proxy: "http://p" });
  expect(warnings).toEqual(['"overlay.upper_dir" is not known']);
});

test("what would mean something else here, or stop the start, is named", () => {
  const { settings, warnings } = readNydusSnapshotterConfig({ version: 1, metrics: { address: ":9110" } });
  expect(settings).toEqual({ status: ":9110" });
  expect(warnings).toEqual(['"metrics.address" listens on loopback here; name an address for more']);
  const backend = { type: "registry", config: { proxy: { url: "localhost:6789" } } };
  const nydusd = readNydusdConfig({ device: { backend, cache: { config: { work_dir: "." } } } });
  expect(nydusd.settings).toEqual({});
  expect(nydusd.warnings).toHaveLength(2);
});
