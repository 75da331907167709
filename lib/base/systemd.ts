/**
 * What systemd tells a service it started (systemd.exec(5), sd_notify(3)).
 *
 * @module
 */

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Whether systemd started this very process, and so is the one that starts it again. INVOCATION_ID would not say so: it
 * is inherited by everything below a service, a login shell included.
 */
export function isSystemdService(environment: Environment, pid: number): boolean {
  return environment.NOTIFY_SOCKET !== undefined || environment.SYSTEMD_EXEC_PID === String(pid);
}
