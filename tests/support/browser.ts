/**
 * A headless Chromium for one test, through Debian's chromedriver and the WebDriver protocol (w3.org/TR/webdriver2).
 *
 * @module
 */
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { startService, waitFor } from "./process.ts";
import type { Workspace } from "./workspace.ts";

/** As root, on a machine without a screen, with nothing on the network but what the test asks for. */
const FLAGS = [
  ...["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"],
  ...["disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"],
];

export class Browser {
  readonly #session: string;

  constructor(session: string) {
    this.#session = session;
  }

  async open(url: string): Promise<void> {
    await command("POST", `${this.#session}/url`, { url });
  }

  /** Runs in the page. What it returns must be JSON. */
  async run<T>(script: string, ...args: unknown[]): Promise<T> {
    return (await command("POST", `${this.#session}/execute/sync`, { script, args })) as T;
  }

  async text(selector: string): Promise<string> {
    return await this.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector);
  }

  /** Keys as somebody types them; "\uE004" is Tab, "\uE006" Return. */
  async type(keys: string): Promise<void> {
    const actions = [...keys].flatMap((value) => [
      { type: "keyDown", value },
      { type: "keyUp", value },
    ]);
    await command("POST", `${this.#session}/actions`, { actions: [{ type: "key", id: "keys", actions }] });
  }

  /** As a screen of this size and a reader who wants it so. */
  async emulate(width: number, height: number, scheme: "light" | "dark"): Promise<void> {
    const devtools = async (cmd: string, params: object): Promise<unknown> =>
      await command("POST", `${this.#session}/goog/cdp/execute`, { cmd, params });
    await devtools("Emulation.setDeviceMetricsOverride", {
      width,
      height,
      deviceScaleFactor: 1,
      mobile: width < 600,
    });
    await devtools("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value: scheme }],
    });
  }

  async screenshot(path: string): Promise<void> {
    const png = (await command("GET", `${this.#session}/screenshot`)) as string;
    await writeFile(path, Buffer.from(png, "base64"));
  }
}

export async function startBrowser(place: Workspace): Promise<Browser> {
  const port = await freePort();
  const driver = startService("chromedriver", [`--port=${port}`, "--log-level=WARNING"], {
    log: place.path("chromedriver.log"),
    env: { HOME: place.path("home"), TMPDIR: place.directory },
  });
  place.defer(() => driver.stop());
  const base = `http://127.0.0.1:${port}`;
  const ready = async (): Promise<boolean> =>
    await fetch(`${base}/status`).then(
      (answer) => answer.ok,
      () => false,
    );
  await waitFor("chromedriver", ready, { service: driver });
  const profile = place.path("chromium");
  await mkdir(profile);
  const args = [...FLAGS, `user-data-dir=${profile}`].map((flag) => `--${flag}`);
  const options = { binary: "/usr/bin/chromium", args };
  const { sessionId } = (await command("POST", `${base}/session`, {
    capabilities: { alwaysMatch: { browserName: "chrome", "goog:chromeOptions": options } },
  })) as { sessionId: string };
  const session = `${base}/session/${sessionId}`;
  place.defer(async () => {
    await command("DELETE", session);
  });
  return new Browser(session);
}

async function command(method: string, url: string, body?: object): Promise<unknown> {
  const answer = await fetch(url, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  const { value } = (await answer.json()) as { value: unknown };
  if (answer.ok) return value;
  throw new Error(`Cannot drive the browser: ${JSON.stringify(value).slice(0, 500)}`);
}

/** One that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  return typeof address === "object" && address !== null ? address.port : 0;
}
