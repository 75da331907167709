/**
 * The page's sections, each a pure function of what is known. `html` escapes every value.
 *
 * @module
 */
import { html } from "hono/html";
import { formatBytes } from "../../base/format-bytes.ts";
import type { CacheStatus } from "../../blob/cache-status.ts";
import type { BrokenMount } from "../../mount/broken-mounts.ts";
import type { MountStatus } from "../../mount/mount-request.ts";
import type { HotFile } from "../hot-files.ts";
import type { Overview } from "../overview.ts";
import type { ImageView } from "./images.ts";
import { imagesOf } from "./images.ts";

export type Html = ReturnType<typeof html>;

/** By the element's id, in the order of the page. */
export function sections(overview: Overview): Readonly<Record<string, Html>> {
  return {
    summary: summary(overview),
    broken: brokenMounts(overview.broken),
    images: images(imagesOf(overview)),
    cache: caches(overview.caches),
    sources: sources(overview.mounts),
    events: events(overview),
  };
}

function summary({ mounts, snapshots }: Overview): Html {
  const broken = mounts.filter(({ state }) => state === "broken").length;
  const failed = snapshots.filter(({ failure }) => failure !== undefined).length;
  const kinds = (kind: string): number => snapshots.filter((snapshot) => snapshot.kind === kind).length;
  return html`<p>
    ${mounts.length} mounted${broken > 0 ? html`, <strong class="bad">${broken} broken</strong>` : ""}${
      failed > 0 ? html`, <strong class="bad">${failed} cannot be mounted</strong>` : ""
    }${
      snapshots.length > 0
        ? html`; snapshots: ${kinds("active")} active, ${kinds("view")} views, ${kinds("committed")} committed`
        : ""
    }
  </p>`;
}

/** Empty, as it should be, it shows nothing. */
function brokenMounts(list: readonly BrokenMount[]): Html {
  return html`${list.map(
    ({ reference, since, mountpoints }) => html`<article class="card">
      <h3>${reference}</h3>
      <p class="bad">reads fail: every process that served it died</p>
      ${mountpoints.map((mountpoint) => html`<p>${mountpoint}</p>`)}
      <p class="dim">since <time datetime="${since}">${since}</time>; restart what runs there</p>
    </article>`,
  )}`;
}

function images(list: readonly ImageView[]): Html {
  if (list.length === 0) return html`<p class="dim">No image is here.</p>`;
  return html`<div class="cards">${list.map(imageCard)}</div>`;
}

function imageCard({ reference, mount, failure }: ImageView): Html {
  if (mount === undefined) {
    return html`<article class="card">
      <h3>${reference}</h3>
      ${
        failure === undefined
          ? html`<p class="dim">no container uses it</p>`
          : html`<p class="bad">cannot be mounted: ${failure.error}</p>
              <p class="dim">since <time datetime="${failure.since}">${failure.since}</time>, tried again all the time</p>`
      }
    </article>`;
  }
  const share = mount.dataBytes === 0 ? 100 : Math.floor((mount.cachedBytes / mount.dataBytes) * 100);
  const key = `files-${mount.id}`;
  return html`<article class="card">
    <h3>${reference}</h3>
    <p class="facts">
      <span>${mount.driver}${mount.writable ? " + overlay" : ""}</span>
      <span class="${mount.state === "mounted" ? "good" : "bad"}">${mount.state}</span>
      <span class="dim">${mount.mountpoint}</span>
    </p>
    <progress max="100" value="${share}" aria-label="Of ${reference} in the cache">${share}%</progress>
    <p class="facts">
      <span>${share}% here: ${formatBytes(mount.cachedBytes)} of ${formatBytes(mount.dataBytes)}</span>
      <span class="dim">fetched ${formatBytes(mount.fetchedBytes)} in ${mount.requests} requests</span>
      <span class="dim">${mount.hits} reads from the cache, ${mount.misses} waited</span>
    </p>
    ${trouble(mount)}
    <details data-key="${key}" data-from="mounts/${encodeURIComponent(mount.id)}/files">
      <summary>Files that are read</summary>
      <div><p class="dim">looking …</p></div>
    </details>
  </article>`;
}

function trouble({ corruptChunks, uncachedChunks }: MountStatus): Html {
  return html`${corruptChunks > 0 ? html`<p class="bad">${corruptChunks} damaged chunks were fetched again</p>` : ""}${
    uncachedChunks > 0 ? html`<p class="warn">${uncachedChunks} chunks could not be cached</p>` : ""
  }`;
}

function caches(list: readonly CacheStatus[]): Html {
  if (list.length === 0) return html`<p class="dim">No process serves images.</p>`;
  return html`<div class="cards">${list.map(cacheCard)}</div>`;
}

function cacheCard(cache: CacheStatus): Html {
  const { directory, bytes, limit, evictedBytes, damagedChunks } = cache;
  const share = limit === undefined ? undefined : Math.min(Math.round((bytes / limit) * 100), 100);
  return html`<article class="card">
    <h3>${directory}</h3>
    ${
      share === undefined
        ? ""
        : html`<progress max="100" value="${share}" aria-label="Of the cache's quota used">${share}%</progress>`
    }
    <p class="facts">
      <span>${formatBytes(bytes)}${limit === undefined ? ", no quota" : ` of ${formatBytes(limit)}`}</span>
      ${evictedBytes > 0 ? html`<span class="dim">${formatBytes(evictedBytes)} left to keep the quota</span>` : ""}
      ${damagedChunks > 0 ? html`<span class="bad">${damagedChunks} damaged chunks</span>` : ""}
    </p>
    ${cache.trouble === undefined ? "" : html`<p class="bad">${cache.trouble}</p>`}
  </article>`;
}

const STATES = { well: "good", resting: "warn", down: "bad" } as const;

function sources(mounts: readonly MountStatus[]): Html {
  const rows = mounts.flatMap(({ reference, sources: own }) =>
    own.map((source) => ({ reference, ...source })),
  );
  if (rows.length === 0) return html`<p class="dim">No source is in use.</p>`;
  return html`<div class="scroll"><table class="stack">
    <thead><tr><th scope="col">Source</th><th scope="col">State</th><th scope="col" class="number">Failures</th>
      <th scope="col">Last failure</th><th scope="col">Image</th></tr></thead>
    <tbody>${rows.map(
      ({ name, state, failures, lastFailure, reference }) => html`<tr>
        <td>${name}</td><td class="${STATES[state]}">${state}</td><td class="number" data-name="failures">${failures}</td>
        <td>${lastFailure === undefined ? "" : `${clock(lastFailure.at)} ${lastFailure.error}`}</td>
        <td class="dim">${reference}</td>
      </tr>`,
    )}</tbody>
  </table></div>`;
}

const SHOWN_EVENTS = 30;

function events({ events: all }: Overview): Html {
  if (all.length === 0) return html`<p class="dim">Nothing has happened.</p>`;
  const newest = all.toSorted((a, b) => b.at - a.at).slice(0, SHOWN_EVENTS);
  return html`<div class="scroll"><table class="stack">
    <thead><tr><th scope="col">Time</th><th scope="col">Event</th></tr></thead>
    <tbody>${newest.map(
      ({ at, level, message, fields }) => html`<tr>
        <td class="time dim">${clock(at)}</td>
        <td class="${level === "error" ? "bad" : level === "warn" ? "warn" : ""}">${message}${Object.entries(
          fields,
        ).map(([name, value]) => html` <span class="dim">${name}=${value}</span>`)}</td>
      </tr>`,
    )}</tbody>
  </table></div>`;
}

/** The node's logs are in UTC too. */
function clock(at: number): string {
  return new Date(at).toISOString().slice(0, 19).replace("T", " ");
}

export function fileTable(files: readonly HotFile[]): Html {
  if (files.length === 0) return html`<p class="dim">Nothing was read yet.</p>`;
  return html`<div class="scroll"><table>
    <thead><tr><th scope="col">File</th><th scope="col" class="number">Read</th><th scope="col" class="number">Size</th></tr></thead>
    <tbody>${files.map(
      ({ path, bytes, size }) => html`<tr>
        <td>${path}</td><td class="number">${formatBytes(bytes)}</td><td class="number">${formatBytes(size)}</td>
      </tr>`,
    )}</tbody>
  </table></div>`;
}
