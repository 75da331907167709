/**
 * Configuration files of nydus-snapshotter (TOML) and nydusd (JSON), read as they are, so that a node can switch over:
 * each key either becomes a setting of ours, or needs none here, or is named in a warning. One table for each format.
 *
 * @module
 */
import { DEFAULT_KUBECONFIG } from "../credentials/kubeconfig.ts";

/** Our flags' names and their values. */
type Settings = Readonly<Record<string, string | boolean>>;

export interface ForeignConfig {
  readonly settings: Settings;
  /** What the file asks for and will not get, a sentence each. */
  readonly warnings: readonly string[];
}

interface Outcome {
  readonly settings?: Settings;
  readonly warning?: string;
}

/** What a key means here. */
type Rule = (value: unknown) => Outcome;

/** Means the same without being said: how we are built, or how we do it anyway. */
const needless: Rule = () => ({});

const as =
  (flag: string): Rule =>
  (value) =>
    typeof value === "string"
      ? value === ""
        ? {}
        : { settings: { [flag]: value } }
      : { warning: "is not a text" };

/** A text of a certain form; of another form it would stop the start. */
const asLike =
  (flag: string, form: RegExp, warning: string): Rule =>
  (value) =>
    typeof value === "string" && value !== "" && !form.test(value) ? { warning } : as(flag)(value);

const URL_FORM = /^https?:\/\/./;

/** Harmless with these values; otherwise something is asked for that does not exist here. */
const unless =
  (harmless: readonly unknown[], warning: string): Rule =>
  (value) =>
    harmless.includes(value) ? {} : { warning };

const switchedOn =
  (flag: string): Rule =>
  (value) =>
    value === true ? { settings: { [flag]: true } } : {};

const OFF = [false, "", 0, undefined];

/** nydus-snapshotter's and nydusd's levels that have other names, or none. */
const LEVELS: Readonly<Record<string, string>> = {
  trace: "debug",
  debug: "debug",
  info: "info",
  warn: "warn",
  warning: "warn",
  error: "error",
  fatal: "error",
  panic: "error",
};

const level: Rule = (value) => {
  const known = typeof value === "string" ? LEVELS[value.toLowerCase()] : undefined;
  return known === undefined ? { warning: "is no log level" } : { settings: { "log-level": known } };
};

const SECONDS: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1 };

/** Go writes times as "1h30m0s"; less than a second does not matter here. */
function time(flag: string): Rule {
  return (value) => {
    const parts = typeof value === "string" ? [...value.matchAll(/(\d+)(h|ms|m|s)/g)] : [];
    if (parts.length === 0 || parts.map(([whole]) => whole).join("") !== value)
      return { warning: "is no time" };
    const seconds = parts.reduce(
      (sum, [, count, unit = ""]) => sum + Number(count) * (SECONDS[unit] ?? 0),
      0,
    );
    return { settings: { [flag]: `${seconds}s` } };
  };
}

/** Bytes a second; 0 is no limit. */
const bandwidth: Rule = (value) =>
  Number.isSafeInteger(value) && Number(value) > 0
    ? { settings: { "prefetch-bandwidth": String(value) } }
    : {};

const LAYOUT = "is not supported: containers get overlays that every runtime can mount";

const SNAPSHOTTER_RULES: Readonly<Record<string, Rule>> = {
  version: unless([1], "is not 1"),
  root: as("root"),
  address: as("address"),
  uid: unless([0], "is not supported: the socket is root's"),
  gid: unless([0], "is not supported: the socket is root's"),
  // One process serves the mounts of a node, whatever the mode.
  daemon_mode: unless(
    ["multiple", "dedicated", "shared"],
    "is not supported: images are mounted on the host",
  ),
  cleanup_on_close: unless(OFF, "is not supported: mounts of running containers stay"),
  "system.enable": unless(OFF, "is not supported: the status endpoint answers instead"),
  "system.address": needless,
  "system.uid": needless,
  "system.gid": needless,
  "system.debug.daemon_cpu_profile_duration_secs": needless,
  "system.debug.pprof_address": unless(OFF, "is not supported"),
  "daemon.nydusd_path": needless,
  "daemon.nydusd_config": needless, // a file, read beside this one
  "daemon.nydusimage_path": needless,
  "daemon.recover_policy": unless(["restart", "failover"], "is not supported: mounts are always recovered"),
  "daemon.fs_driver": unless(["fusedev"], "is not supported: the best driver for this kernel is used"),
  "daemon.threads_number": needless,
  "daemon.log_rotation_size": needless,
  "daemon.failover_policy": unless(["resend"], "is not supported: what was not answered is sent again"),
  "cgroup.enable": unless(OFF, "is not supported: set limits in the systemd unit"),
  "cgroup.memory_limit": needless,
  "log.level": level,
  "log.log_to_stdout": needless, // systemd's journal has it either way
  "log.dir": unless(OFF, "is not supported: the journal keeps the log"),
  "log.log_rotation_max_size": needless,
  "log.log_rotation_max_backups": needless,
  "log.log_rotation_max_age": needless,
  "log.log_rotation_local_time": needless,
  "log.log_rotation_compress": needless,
  "metrics.address": (value) => ({
    ...as("status")(value),
    ...(String(value).startsWith(":")
      ? { warning: "listens on loopback here; name an address for more" }
      : {}),
  }),
  "metrics.hung_io_interval": needless,
  "metrics.collect_interval": needless,
  "remote.convert_vpc_registry": unless(OFF, "is not supported"),
  "remote.skip_ssl_verify": switchedOn("insecure"),
  "remote.mirrors_config.dir": as("hosts-dir"),
  "remote.mirrors_config.health_check_interval": needless,
  "remote.mirrors_config.failure_limit": needless,
  "remote.mirrors_config.ping_url": needless,
  "remote.auth.enable_kubeconfig_keychain": needless, // see SWITCHED
  "remote.auth.kubeconfig_path": as("kubeconfig"),
  "remote.auth.enable_cri_keychain": needless, // always
  "remote.auth.image_service_address": as("image-service-address"),
  "remote.auth.enable_kubelet_credential_providers": needless,
  "remote.auth.credential_provider_config": as("credential-provider-config"),
  "remote.auth.credential_provider_bin_dir": as("credential-provider-bin-dir"),
  "remote.auth.credential_renewal_interval": needless, // tokens are renewed before they expire
  "snapshot.enable_nydus_overlayfs": unless(OFF, LAYOUT),
  "snapshot.nydus_overlayfs_path": needless,
  "snapshot.enable_kata_volume": unless(OFF, LAYOUT),
  "snapshot.sync_remove": needless, // always
  "snapshot.enable_overlayfs_volatile": unless(OFF, "is not supported: ask for it with a snapshot's label"),
  "cache_manager.disable": unless(OFF, "is not supported: cached data of removed images goes"),
  "cache_manager.gc_period": time("cache-grace"),
  "cache_manager.cache_dir": as("cache-dir"),
  "image.public_key_file": needless,
  "image.validate_signature": unless(OFF, "is NOT done: images are not checked against signatures"),
  "experimental.enable_stargz": needless, // always
  "experimental.enable_referrer_detect": switchedOn("referrers"),
  "experimental.enable_index_detect": unless(OFF, "is done by nydus-tool pull only"),
  "experimental.enable_backend_source": unless(OFF, "is not supported"),
  "experimental.tarfs.enable_tarfs": unless(OFF, "is not supported"),
  "experimental.tarfs.mount_tarfs_on_host": needless,
  "experimental.tarfs.tarfs_hint": needless,
  "experimental.tarfs.max_concurrent_proc": needless,
  "experimental.tarfs.export_mode": needless,
};

const SECRET = "is not used: credentials do not belong into this file";

const NYDUSD_RULES: Readonly<Record<string, Rule>> = {
  version: needless,
  id: needless,
  "device.id": needless,
  "device.backend.type": unless(["registry"], "is not supported: blobs come from the image's registry"),
  "device.backend.config.scheme": (value) => (value === "http" ? { settings: { "plain-http": true } } : {}),
  "device.backend.config.skip_verify": switchedOn("insecure"),
  // The image's own reference says where it is.
  "device.backend.config.host": needless,
  "device.backend.config.repo": needless,
  "device.backend.config.auth": unless(OFF, SECRET),
  "device.backend.config.registry_token": unless(OFF, SECRET),
  "device.backend.config.timeout": needless,
  "device.backend.config.connect_timeout": needless,
  "device.backend.config.retry_limit": needless,
  "device.backend.config.blob_url_scheme": unless(OFF, "is not supported"),
  "device.backend.config.blob_redirected_host": unless(OFF, "is not supported"),
  "device.backend.config.proxy.url": asLike("proxy", URL_FORM, "is no URL"),
  "device.backend.config.proxy.ping_url": asLike("proxy-ping", URL_FORM, "is no URL"),
  "device.backend.config.proxy.use_http": switchedOn("proxy-http"),
  "device.backend.config.proxy.fallback": unless(
    [true],
    "is not supported: the origin is asked when the proxy fails",
  ),
  "device.backend.config.proxy.check_interval": needless,
  "device.backend.config.proxy.check_pause_elapsed": needless,
  "device.cache.type": unless(
    ["blobcache", "filecache"],
    "is not supported: chunks are always kept in files",
  ),
  "device.cache.compressed": needless,
  "device.cache.validate": needless, // every chunk, always
  "device.cache.config.work_dir": asLike("cache-dir", /^\//, "is not used: it is no absolute path"),
  "device.cache.config.disable_indexed_map": needless,
  mode: needless,
  digest_validate: needless,
  iostats_files: needless,
  enable_xattr: unless([true], "is not supported: extended attributes are part of the image"),
  access_pattern: needless,
  latest_read_files: needless,
  amplify_io: needless,
  "fs_prefetch.enable": unless(OFF, "is not supported: what a start reads is learnt, and fetched ahead"),
  "fs_prefetch.threads_count": needless,
  "fs_prefetch.merging_size": needless,
  "fs_prefetch.bandwidth_rate": bandwidth,
  "fs_prefetch.bandwidth_limit": bandwidth,
  "fs_prefetch.prefetch_all": needless,
  "fs_prefetch.stream_prefetch": needless,
};

/** nydus-snapshotter's file says its version; none of ours does. */
export function isNydusSnapshotterConfig(parsed: object): boolean {
  return "version" in parsed;
}

const KUBECONFIG_SWITCH = "remote.auth.enable_kubeconfig_keychain";
/** Sources of credentials that are off until a key enables them, and the flags that they are about. */
const SWITCHED: readonly (readonly [key: string, flags: readonly string[]])[] = [
  [KUBECONFIG_SWITCH, ["kubeconfig"]],
  [
    "remote.auth.enable_kubelet_credential_providers",
    ["credential-provider-config", "credential-provider-bin-dir"],
  ],
];

export function readNydusSnapshotterConfig(parsed: object): ForeignConfig {
  const { settings, warnings } = applied(SNAPSHOTTER_RULES, parsed);
  const values = new Map(leaves(parsed));
  const isOn = (key: string): boolean => values.get(key) === true;
  const off = new Set(SWITCHED.flatMap(([key, flags]) => (isOn(key) ? [] : flags)));
  const kept = Object.entries(settings).filter(([flag]) => !off.has(flag));
  const defaults: Settings = isOn(KUBECONFIG_SWITCH) ? { kubeconfig: DEFAULT_KUBECONFIG } : {};
  return { settings: { ...defaults, ...Object.fromEntries(kept) }, warnings };
}

/** Where the same file says that nydusd's is. */
export function nydusdConfigPath(parsed: object): string | undefined {
  const path = leaves(parsed).find(([key]) => key === "daemon.nydusd_config")?.[1];
  return typeof path === "string" && path !== "" ? path : undefined;
}

/** Of either version: what the second one calls differently means the same. */
export function readNydusdConfig(parsed: object): ForeignConfig {
  const second = "version" in parsed && parsed.version === 2;
  return applied(NYDUSD_RULES, parsed, second ? firstName : (key) => key);
}

/** The longest beginning of a key comes first. */
const FIRST_NAMES: readonly (readonly [second: string, first: string])[] = [
  ["backend.registry.", "device.backend.config."],
  ["backend.", "device.backend."],
  ["cache.filecache.", "device.cache.config."],
  ["cache.prefetch.threads", "fs_prefetch.threads_count"],
  ["cache.prefetch.batch_size", "fs_prefetch.merging_size"],
  ["cache.prefetch.", "fs_prefetch."],
  ["cache.", "device.cache."],
  ["rafs.prefetch.threads", "fs_prefetch.threads_count"],
  ["rafs.prefetch.batch_size", "fs_prefetch.merging_size"],
  ["rafs.prefetch.", "fs_prefetch."],
  ["rafs.batch_size", "amplify_io"],
  ["rafs.validate", "digest_validate"],
  ["rafs.", ""],
];

function firstName(key: string): string {
  const found = FIRST_NAMES.find(([second]) => key.startsWith(second));
  return found === undefined ? key : `${found[1]}${key.slice(found[0].length)}`;
}

function applied(
  rules: Readonly<Record<string, Rule>>,
  parsed: object,
  nameOf = (key: string): string => key,
): ForeignConfig {
  const outcomes = leaves(parsed).map(([key, value]) => {
    const name = nameOf(key);
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    const { settings = {}, warning } = rule?.(value) ?? { warning: "is not known" };
    return { settings, warnings: warning === undefined ? [] : [`"${key}" ${warning}`] };
  });
  return {
    settings: Object.assign({}, ...outcomes.map(({ settings }) => settings)),
    warnings: outcomes.flatMap(({ warnings }) => warnings),
  };
}

/** Every value that is no table, by the dotted path to it. */
function leaves(table: object, prefix = ""): (readonly [key: string, value: unknown])[] {
  return Object.entries(table).flatMap(([key, value]: [string, unknown]) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? leaves(value, `${prefix}${key}.`)
      : [[`${prefix}${key}`, value] as const],
  );
}
