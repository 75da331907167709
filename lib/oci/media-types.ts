/** Media types and annotation keys, as OCI, Docker and the Nydus converter write them. @module */

export const MEDIA = {
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociLayer: "application/vnd.oci.image.layer.v1.tar",
  ociLayerGzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  ociLayerZstd: "application/vnd.oci.image.layer.v1.tar+zstd",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerIndex: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  dockerLayer: "application/vnd.docker.image.rootfs.diff.tar",
  dockerLayerGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  nydusBlob: "application/vnd.oci.image.layer.nydus.blob.v1",
  octets: "application/octet-stream",
  ociEmpty: "application/vnd.oci.empty.v1+json",
} as const;

export const ARTIFACT = {
  /** Of an entry of an index that holds an image both plain and as Nydus. */
  nydusManifest: "application/vnd.nydus.image.manifest.v1+json",
} as const;

/** Annotations on layer descriptors (and labels of snapshots), all under one prefix. */
export const SNAPSHOT_PREFIX = "containerd.io/snapshot/";

export const ANNOTATION = {
  nydusBlob: "containerd.io/snapshot/nydus-blob",
  nydusBootstrap: "containerd.io/snapshot/nydus-bootstrap",
  nydusFsVersion: "containerd.io/snapshot/nydus-fs-version",
  nydusRef: "containerd.io/snapshot/nydus-ref",
  nydusEncryptedBlob: "containerd.io/snapshot/nydus-encrypted-blob",
  /** On the bootstrap layer: hex ids of blobs that chunk dictionaries brought, as a JSON list. */
  nydusReferenceBlobIds: "containerd.io/snapshot/nydus-reference-blob-ids",
  nydusHotBlob: "containerd.io/snapshot/nydus-separated-blob-with-prefetch-files",
  nydusSourceDigest: "containerd.io/snapshot/nydus-source-digest",
  nydusSourceReference: "containerd.io/snapshot/nydus-source-reference",
  /** Of an eStargz or zstd:chunked layer: digest of its table of contents, uncompressed. */
  stargzTocDigest: "containerd.io/snapshot/stargz/toc.digest",
  /** Of a zstd:chunked layer: digest of its stored table of contents, and where that is. */
  zstdTocChecksum: "io.github.containers.zstd-chunked.manifest-checksum",
  zstdTocPosition: "io.github.containers.zstd-chunked.manifest-position",
  /** As containerd's converter names the same two. */
  zstdTocChecksumOld: "io.containers.zstd-chunked.manifest-checksum",
  zstdTocPositionOld: "io.containers.zstd-chunked.manifest-position",
  refName: "org.opencontainers.image.ref.name",
} as const;

export function isManifestType(mediaType: string): boolean {
  return mediaType === MEDIA.ociManifest || mediaType === MEDIA.dockerManifest;
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === MEDIA.ociIndex || mediaType === MEDIA.dockerIndex;
}

/** Of Docker's family rather than OCI's. */
export function isDockerType(mediaType: string): boolean {
  return mediaType === MEDIA.dockerManifest || mediaType === MEDIA.dockerIndex;
}
