/** The status page as people see it: in a real browser, by keyboard, on a phone, in the dark, while things happen. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Browser, freePort, startBrowser } from "./support/browser.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { waitFor } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;
const TAB = "\uE004";
const RETURN = "\uE006";

describe("the status page", () => {
  let place: Workspace;
  let browser: Browser;
  let address: string;
  let mountpoint: string;

  beforeAll(async () => {
    place = await openWorkspace();
    const registry = await startEmbeddedRegistry(place);
    const random = new Random(3);
    const layer = tarOf([
      { path: "srv/", type: "dir" },
      { path: "srv/<b>hot</b>", type: "file", data: random.noise(2 * MIB) },
      // The kernel reads ahead, into what lies beside it.
      { path: "srv/beside", type: "file", data: random.noise(5 * MIB) },
      { path: "srv/cold", type: "file", data: random.noise(MIB) },
    ]);
    await writeLayout(place.path("source"), [layer]);
    await place.tool(["convert", `oci:${place.path("source")}:t`, `${registry.host}/team/app:1`]);
    const port = await freePort();
    mountpoint = await place.mount(`${registry.host}/team/app:1`, {
      flags: ["--status", `127.0.0.1:${port}`, "--cache-size", "64M"],
    });
    address = `http://127.0.0.1:${port}`;
    browser = await startBrowser(place);
  }, 120_000);

  afterAll(async () => {
    await place[Symbol.asyncDispose]();
  });

  test("shows images, driver, amounts, cache, sources and events, and loads nothing from elsewhere", async () => {
    await browser.emulate(1280, 900, "light");
    await browser.open(address);
    await waitFor("the page to be live", async () => (await browser.text("#live")) === "live");
    const images = await browser.text("#images");
    expect(images).toContain("/team/app:1");
    expect(images).toMatch(/erofs|fuse/);
    expect(await browser.text("#cache")).toContain("of 67.1 MB");
    expect(await browser.text("#sources")).toMatch(/127\.0\.0\.1:\d+\s+well\s+0/);
    const loaded = await browser.run<string[]>(
      "return performance.getEntriesByType('resource').map((e) => e.name)",
    );
    expect(loaded.length).toBeGreaterThan(1);
    for (const url of loaded) expect(url.startsWith(address)).toBe(true);
    expect(
      await browser.run("return document.querySelectorAll('[lang], main, h1, section[aria-label]').length"),
    ).toBe(9);
  });

  test("moves while files are read, and names them, by keyboard alone", async () => {
    await browser.type(TAB.repeat(2));
    expect(await browser.run("return document.activeElement.tagName")).toBe("SUMMARY");
    await browser.type(RETURN);
    await expect.poll(() => browser.text("details div")).toContain("Nothing was read yet");
    const share = (): Promise<number> =>
      browser.run("return document.querySelector('#images progress').value");
    expect(await share()).toBeLessThan(20);
    await readFile(`${mountpoint}/srv/<b>hot</b>`);
    await expect.poll(share, { timeout: 15_000 }).toBeGreaterThanOrEqual(20);
    // A name of the image is text, whatever it holds; what was opened stays open, and has the keyboard still.
    await expect.poll(() => browser.text("details div"), { timeout: 15_000 }).toContain("/srv/<b>hot</b>");
    expect(await browser.text("details div")).not.toContain("cold");
    expect(await browser.run("return document.activeElement.tagName")).toBe("SUMMARY");
  });

  test.each([
    [360, 740, "light"],
    [360, 740, "dark"],
    [1280, 900, "dark"],
  ] as const)("fits a screen of %i by %i, %s, with text that can be read", async (width, height, scheme) => {
    await browser.emulate(width, height, scheme);
    expect(await browser.run("return document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
    const worst = await browser.run<{ ratio: number; text: string }>(WORST_CONTRAST);
    expect(worst.ratio, worst.text).toBeGreaterThanOrEqual(4.5); // WCAG AA
    if (process.env.NYDUS_SCREENSHOTS !== undefined)
      await browser.screenshot(`${process.env.NYDUS_SCREENSHOTS}/${width}-${scheme}.png`);
  });

  test("cannot change anything, and does not answer to foreign names", async () => {
    for (const method of ["POST", "PUT", "DELETE", "PATCH"])
      expect((await fetch(`${address}/api/v1/mounts`, { method })).status).toBe(405);
    const host = { host: "evil.example" };
    expect((await fetch(`${address}/api/v1/mounts`, { headers: host })).status).toBe(421);
  });

  test("says so when nobody answers any more", async () => {
    await place.umount(mountpoint);
    await expect.poll(() => browser.text("#live"), { timeout: 15_000 }).toContain("not connected");
  });
});

/** The least contrast of any text with what is behind it (WCAG 2.2, 1.4.3). */
const WORST_CONTRAST = `
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  let worst = { ratio: 21, text: "" };
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== "");
    if (!own) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: element.outerHTML.slice(0, 200) };
  }
  return worst;
`;
