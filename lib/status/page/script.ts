/**
 * What the page does by itself: it replaces sections that have changed, and fetches the files of an image when somebody
 * opens them. Everything is there without it too, once.
 *
 * @module
 */

/** Plain JavaScript for browsers. */
export const SCRIPT = `
"use strict";
const live = document.getElementById("live");

function show(text, kind) {
  live.textContent = text;
  live.className = "live " + kind;
}

/** Keeps what is open and where the keyboard is. */
function replace(id, html) {
  const section = document.getElementById(id);
  if (section === null) return;
  const open = new Map();
  for (const details of section.querySelectorAll("details[open][data-key]"))
    open.set(details.dataset.key, details.querySelector("div").innerHTML);
  const focused = section.contains(document.activeElement)
    ? document.activeElement.closest("[data-key]")?.dataset.key
    : undefined;
  section.innerHTML = html;
  for (const details of section.querySelectorAll("details[data-key]")) {
    const before = open.get(details.dataset.key);
    if (before !== undefined) {
      details.querySelector("div").innerHTML = before;
      details.open = true;
    }
    if (details.dataset.key === focused) details.querySelector("summary").focus();
  }
}

async function fill(details) {
  const place = details.querySelector("div");
  try {
    const answer = await fetch(details.dataset.from);
    place.innerHTML = answer.ok ? await answer.text() : "<p>It is not mounted any more.</p>";
  } catch {
    place.innerHTML = "<p>Nobody answers.</p>";
  }
}

document.addEventListener("toggle", (event) => {
  const details = event.target;
  if (details instanceof HTMLDetailsElement && details.open && details.dataset.from) fill(details);
}, true);

function watch() {
  const source = new EventSource("live");
  source.onopen = () => show("live", "good");
  source.onerror = () => show("not connected, trying again", "bad");
  source.onmessage = (message) => {
    for (const [id, html] of Object.entries(JSON.parse(message.data))) replace(id, html);
    for (const details of document.querySelectorAll("details[open][data-from]")) fill(details);
  };
}
watch();
`;
