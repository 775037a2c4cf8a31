// The dashboard and the page to try a stream.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, move, open, shoot, until } from "./stage.mjs";

const HOSTILE = "<img src=x";
let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const rows = (page) => page.locator("#rows tr").count();
const filled = (page) => until("there are rows", async () => (await rows(page)) > 0);

test("the dashboard shows what goes on, and a name is text", async () => {
  const context = await browser.newContext();
  const reader = await open(context, "try?name=btcusdt%40trade");
  await until("messages come", async () => (await reader.locator("#messages li.data").count()) > 3);
  const page = await open(context);
  await filled(page);
  assert.equal(await page.locator("#state").textContent(), "Live");
  await page.getByLabel("Search").fill("btcusdt");
  await until("one is found", async () => (await rows(page)) === 1);
  await until("it has a rate", async () => {
    const [rate] = (await page.locator("#rows tr td:nth-child(3)").allTextContents());
    return Number(rate) > 10;
  });
  assert.ok(await page.locator("#rows polyline").getAttribute("points"));
  await move("lose");
  await until("the timeline has it", async () => (await page.locator("#timeline").textContent()).includes("disconnected"));
  await shoot(page, "dashboard");
  await page.getByLabel("Search").fill(HOSTILE);
  const first = page.locator("#rows tr:first-child th");
  await until("it is found", async () => (await first.textContent()).startsWith(HOSTILE));
  assert.equal(await page.title(), "wsmux");
  assert.deepEqual(page.complaints, []);
  await context.close();
});

test("many streams come by the hundred, by search, and sorted", async () => {
  const context = await browser.newContext();
  const page = await open(context);
  await until("a page of them", async () => (await rows(page)) === 100);
  await page.getByRole("button", { name: "Show more" }).click();
  await until("the rest", async () => (await rows(page)) > 100);
  await page.getByRole("button", { name: "Name" }).press("Enter");
  await until("by name", async () => (await page.locator("th[aria-sort=ascending]").count()) === 1);
  await page.getByLabel("Search").fill("silent00");
  await until("ten", async () => (await rows(page)) === 10);
  assert.equal(await page.locator("#rows tr:first-child th").textContent(), "silent000");
  await context.close();
});

test("a gateway that lost all of its streams is not live, and what is too much to be listed is counted", async () => {
  const finding = { advice: "Check the host.", figure: "21 s", kind: "stream_down", severity: "fail", stream: "a", threshold: "10 s" };
  const fails = { findings: [finding], left_out: { stream_down: 4984 }, status: "fail" };
  const passes = { findings: [], left_out: {}, status: "pass" };
  for (const [health, state, findings] of [[fails, "Offline", /^stream down a 21 s \(threshold 10 s\)\. Check the host\.stream down: and 4984 more$/], [passes, "Live", /^Nothing to do\.$/]]) {
    const context = await browser.newContext();
    await context.route("**/overview?*", async (route) => {
      const answer = await route.fetch();
      const { rows, ...seen } = await answer.json();
      await route.fulfill({ response: answer, json: { ...seen, health, open_streams: 4976, rows: rows.slice(0, 50), streams: 0 } });
    });
    const page = await open(context);
    await until("it is told", async () => (await page.locator("#state").textContent()) === state);
    await until("it is listed", async () => findings.test(await page.locator("#findings").textContent()));
    assert.match(await page.locator("#figures").textContent(), /4976 of 0/);
    assert.equal(await page.getByRole("button", { name: "Show more" }).count(), 0, "no more are told");
    assert.deepEqual(page.complaints, []);
    await context.close();
  }
});

test("a keyboard reaches everything, in the order of reading, and sees where it is", async () => {
  const context = await browser.newContext();
  const page = await open(context);
  await filled(page);
  const reached = [];
  for (let press = 0; press < 16; press += 1) {
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => {
      const { activeElement: now } = document;
      return [now.textContent || now.id, getComputedStyle(now).outlineStyle];
    }));
  }
  const names = reached.map(([name]) => name);
  assert.deepEqual(names.slice(0, 3), ["Try a stream", "search", "Name"]);
  assert.ok(names.includes("Show more"), names.join());
  assert.ok(reached.slice(0, 13).every(([, outline]) => outline === "solid"), JSON.stringify(reached));
  await context.close();
});

/** The least contrast of text on a page, by WCAG 2.2, section 1.4.3. */
const contrast = (page) => page.evaluate(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return { alpha, value: 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue) };
  };
  const back = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = light(getComputedStyle(at).backgroundColor);
      if (colour.alpha > 0) return colour.value;
    }
    return 1;
  };
  let least = 21, where = "";
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const [a, b] = [light(getComputedStyle(element).color).value, back(element)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) [least, where] = [ratio, `${element.tagName} ${element.className} ${element.textContent.slice(0, 30)}`];
  }
  return { least, where };
});

test("text can be read, by light and by dark, on a desk and on a phone", async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const [device, viewport] of Object.entries({ desk: { width: 1280, height: 900 }, phone: { width: 360, height: 740 } })) {
      const context = await browser.newContext({ colorScheme, viewport });
      for (const path of ["", "try?name=btcusdt%40trade"]) {
        const page = await open(context, path);
        await until("it is drawn", async () => (await page.locator(path ? "#messages li.data" : "#rows tr").count()) > 0);
        const { least, where } = await contrast(page);
        assert.ok(least >= 4.5, `${colorScheme} ${device} ${path}: ${least.toFixed(2)} at ${where}`);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(over <= 0, `${device} ${path}: ${over} px too wide`);
        await shoot(page, `${path ? "try" : "dashboard"}-${colorScheme}-${device}`);
      }
      await context.close();
    }
  }
});

test("grey on grey is found to be hard to read", async () => {
  const context = await browser.newContext();
  const page = await open(context);
  await page.evaluate(() => (document.querySelector("h1").style.color = "light-dark(#ccc, #333)"));
  assert.ok((await contrast(page)).least < 4.5);
  await context.close();
});

test("a stream is tried by WebSocket and by events", async () => {
  const context = await browser.newContext();
  const page = await open(context, "try");
  const color = () => page.locator("#state").evaluate((state) => [state.textContent, getComputedStyle(state).color]);
  const idle = await color();
  assert.equal(idle[0], "idle", "nothing is wrong before anything is watched");
  await page.getByLabel("Name").fill("ethusdt@trade");
  for (const by of ["WebSocket", "Server-Sent Events"]) {
    await page.getByLabel(by).check();
    await page.getByRole("button", { name: "Watch" }).click();
    await until("messages come", async () => (await page.locator("#messages li.data").count()) > 3);
    assert.match(await page.locator("#messages li.data").first().textContent(), /"s":"ETHUSDT"/);
    const [state, shown] = await color();
    assert.equal(state, "live");
    assert.notEqual(shown, idle[1]);
  }
  await page.getByRole("button", { name: "Stop" }).click();
  assert.deepEqual(await color(), idle);
  assert.deepEqual(page.complaints, []);
  await context.close();
});
