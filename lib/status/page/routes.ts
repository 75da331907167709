/**
 * The page for people, without anything from elsewhere:
 *
 *     GET /                    the page
 *     GET /live                server-sent events: {section: html} of what has changed, every two seconds
 *     GET /mounts/ID/files     the files of an image that are read most, as a table
 *     GET /style.css, /script.js
 *
 * @module
 */
import { hostname } from "node:os";
import { Hono } from "hono";
import { html } from "hono/html";
import { streamSSE } from "hono/streaming";
import { isCode } from "../../base/error.ts";
import { hotFiles } from "../hot-files.ts";
import { overviewOf } from "../overview.ts";
import type { StatusSource } from "../source.ts";
import { SCRIPT } from "./script.ts";
import { fileTable, sections } from "./sections.ts";
import { STYLE } from "./style.ts";

const UPDATE_MS = 2000;
const HOT_FILES = 25;

/** Headings by section; the summary needs none. */
const HEADINGS: Readonly<Record<string, string>> = {
  images: "Images",
  cache: "Cache",
  sources: "Sources",
  events: "Events",
};

export function pageRoutes(source: StatusSource): Hono {
  const app = new Hono();
  app.get("/", async (context) => {
    const parts = Object.entries(sections(await overviewOf(source)));
    return context.html(html`<!doctype html>
      <html lang="en">
        <head>
          <meta charset="utf-8" />
          <meta name="viewport" content="width=device-width, initial-scale=1" />
          <title>nydus-tool on ${hostname()}</title>
          <link rel="icon" href="data:," />
          <link rel="stylesheet" href="style.css" />
          <script src="script.js" defer></script>
        </head>
        <body>
          <a class="skip" href="#images">To the images</a>
          <header>
            <h1>nydus-tool</h1>
            <span class="dim">${hostname()}</span>
            <span id="live" class="live dim" role="status">not live</span>
          </header>
          <main>
            ${parts.map(
              ([id, content]) => html`${HEADINGS[id] === undefined ? "" : html`<h2>${HEADINGS[id]}</h2>`}
                <section id="${id}" aria-label="${HEADINGS[id] ?? "Summary"}">${content}</section>`,
            )}
          </main>
        </body>
      </html>`);
  });
  app.get("/style.css", (context) => context.body(STYLE, 200, { "content-type": "text/css; charset=utf-8" }));
  app.get("/script.js", (context) =>
    context.body(SCRIPT, 200, { "content-type": "text/javascript; charset=utf-8" }),
  );
  app.get("/live", (context) =>
    streamSSE(context, async (stream) => {
      const shown = new Map<string, string>();
      while (!stream.aborted && !stream.closed) {
        const changed = await changes(source, shown);
        // A comment keeps the connection, which the server cuts after ten silent seconds.
        if (Object.keys(changed).length > 0) await stream.writeSSE({ data: JSON.stringify(changed) });
        else await stream.write(": nothing new\n\n");
        await stream.sleep(UPDATE_MS);
      }
    }),
  );
  app.get("/mounts/:id/files", async (context) => {
    try {
      const reads = await source.reads?.(context.req.param("id"));
      if (reads === undefined) return context.notFound();
      return context.html(fileTable(await hotFiles(reads, HOT_FILES)));
    } catch (error) {
      if (isCode(error, "not_found") || isCode(error, "unavailable")) return context.notFound();
      throw error;
    }
  });
  return app;
}

/** What is not as it was shown; it counts as shown from now on. */
async function changes(source: StatusSource, shown: Map<string, string>): Promise<Record<string, string>> {
  const changed: Record<string, string> = {};
  for (const [id, content] of Object.entries(sections(await overviewOf(source)))) {
    const text = String(await content);
    if (shown.get(id) === text) continue;
    shown.set(id, text);
    changed[id] = text;
  }
  return changed;
}
