// What the tests share: the browser, the stage, and waiting.

import { chromium } from "playwright-core";
import { mkdirSync } from "node:fs";

export const url = process.env.URL;
const shots = process.env.SHOTS;
if (shots) mkdirSync(shots, { recursive: true });

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

/** Moves the stage. */
export async function move(what) {
  const answer = await fetch(`${process.env.STAGE}stage/${what}`, { method: "POST" });
  if (!answer.ok) throw new Error(`${what}: ${answer.status}`);
}

/** How many WebSocket clients the gateway has. */
export const clients = async () => Number(await (await fetch(`${process.env.STAGE}stage/clients`)).text());

/** Waits until `check` holds, and says what it found. */
export async function until(what, check) {
  const end = Date.now() + 30_000;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A page whose complaints are kept. */
export async function open(context, path = "") {
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("console", (line) => line.type() === "error" && page.complaints.push(line.text()));
  await page.goto(url + path);
  return page;
}

export async function shoot(page, name) {
  if (shots) await page.screenshot({ path: `${shots}/${name}.png` });
}

/** A page that listens to `name` by client.js, and keeps what it hears in `window.heard`. */
export async function listen(context, name, options = "{}") {
  const page = await open(context, "try");
  await page.evaluate(`(async () => {
    const { Gateway } = await import("./client.js");
    window.gateway = new Gateway(${options});
    window.heard = [];
    window.states = [gateway.status];
    gateway.addEventListener("status", () => states.push(gateway.status));
    window.stop = gateway.subscribe(${JSON.stringify(name)}, (event) => heard.push(event));
  })()`);
  return page;
}

export const heard = (page, type) =>
  page.evaluate((type) => window.heard.filter((event) => event.type === type), type);
