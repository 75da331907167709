/**
 * The systemd unit of the snapshotter.
 *
 * @module
 */

export const UNIT = "nydus-tool-snapshotter.service";

export interface UnitOptions {
  readonly binary: string;
  /** Of `snapshotter serve`. */
  readonly words: readonly string[];
}

/** Descriptors that systemd keeps while the service is stopped: one for blobs, and one for each image of driver `fuse`. */
const STORED_DESCRIPTORS = 1024;

export function unitText({ binary, words }: UnitOptions): string {
  const command = [binary, "snapshotter", "serve", ...words].map(unitWord).join(" ");
  return `# Written by "nydus-tool snapshotter install", which replaces it. Changes of yours belong into
# /etc/systemd/system/${UNIT}.d/*.conf (systemctl edit ${UNIT}).
[Unit]
Description=Nydus snapshotter for containerd
After=network-online.target local-fs.target
Wants=network-online.target
Before=containerd.service
# Another program with the same socket.
Conflicts=nydus-snapshotter.service

[Service]
Type=notify
NotifyAccess=main
ExecStart=${command}
Restart=always
RestartSec=1
# The process that serves the files of running containers is another one, and goes on.
KillMode=process
# Without it no container has its files: the last to be killed when memory ends.
OOMScoreAdjust=-999
# File systems whose both processes died wait here for the next start.
FileDescriptorStoreMax=${STORED_DESCRIPTORS}
RuntimeDirectory=nydus-tool
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
`;
}

/** systemd splits at spaces, and takes "%" and "$" for its own. */
function unitWord(word: string): string {
  const plain = word.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w%$./:=@,+-]+$/.test(plain) ? plain : JSON.stringify(plain);
}
