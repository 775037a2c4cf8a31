// The snippets for browsers in docs/guide/clients.md, each as somebody copies it.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { readFileSync } from "node:fs";
import { clients, launch, move, until, url } from "./stage.mjs";

const HERE = "127.0.0.1:8080";
const NAMES = ["Browser: client.js", "Browser: EventSource", "Browser: WebSocket"];

let browser, context;
before(async () => (browser = await launch()));
after(() => browser.close());
beforeEach(async () => (context = await browser.newContext()));
afterEach(async () => {
  await context.close();
  await until("all clients are gone", async () => (await clients()) === 0);
});

/** The blocks of that language in a page, by their titles. */
function blocks(page, language) {
  const sections = page.split("\n## ").slice(1).map((section) => [section.split("\n")[0], section]);
  const block = new RegExp("\n```" + language + "\n(.*?)\n```", "gs");
  return sections.flatMap(([title, section]) => [...section.matchAll(block)].map((found) => [title, found[1]]));
}

const snippets = blocks(readFileSync(new URL("clients.md", import.meta.url), "utf8"), "html");

/** A page of the gateway's origin with that text, and what it writes on the console. */
async function run(text) {
  assert.ok(text.includes(HERE), text);
  const page = await context.newPage();
  const said = [];
  const complaints = [];
  page.on("console", (line) => line.type() === "log" && said.push(line.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  // In the place of something that the gateway has served: a page from nowhere may not call 127.0.0.1.
  await page.goto(`${url}client.js`);
  await page.setContent(`<!doctype html>\n${text.replaceAll(HERE, new URL(url).host)}`);
  /** The next lines, until one begins so. */
  const says = (start) =>
    until(`it says ${start}`, async () => {
      const at = said.findIndex((line) => line.startsWith(start));
      return at >= 0 && said.splice(0, at + 1).at(-1);
    });
  return { complaints, says };
}

test("each snippet for browsers is run", () => {
  assert.deepEqual(snippets.map(([title]) => title), NAMES);
  const more = "\n## A\n\n```html\n<b>\n```\n\n```js\n1\n```\n## B\n\n```html\n<i>\n```\n";
  assert.deepEqual(blocks(more, "html"), [["A", "<b>"], ["B", "<i>"]]);
});

for (const [title, text] of snippets) {
  test(`${title}: as it is copied it shows messages, tells of a gap, and goes on`, async () => {
    const page = await run(text);
    assert.match(await page.says("data"), /"e":"trade"/);
    await page.says("data");
    await move("lose");
    await page.says("gap");
    await page.says("data");
    assert.deepEqual(page.complaints, []);
  });

  test(`${title}: when its line is cut it comes back by itself`, async () => {
    const page = await run(text);
    await page.says("data");
    await move("close");
    await page.says(title === "Browser: client.js" ? "status connecting" : "lost");
    await move("open");
    assert.match(await page.says("data"), /"e":"trade"/);
    assert.deepEqual(page.complaints, []);
  });
}
