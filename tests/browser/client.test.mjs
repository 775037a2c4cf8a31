// client.js: tabs, gaps, and coming back.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { clients, heard, launch, listen, move, open, until } from "./stage.mjs";

const TRADES = "btcusdt@trade";
let browser, context;
before(async () => (browser = await launch()));
after(() => browser.close());
beforeEach(async () => (context = await browser.newContext()));
afterEach(async () => {
  await context.close();
  await until("all clients are gone", async () => (await clients()) === 0);
});

const count = async (page, type) => (await heard(page, type)).length;
const runs = (page) => until("messages come", async () => (await count(page, "data")) > 3);

/** Trades are numbered: between two gaps no number is missing, and none comes twice. */
function check(events) {
  let last = null, holes = 0;
  for (const event of events) {
    if (event.type === "gap") last = null;
    if (event.type !== "data" || event.polled) continue;
    if (last !== null && event.data.t !== last + 1) holes += 1;
    last = event.data.t;
  }
  return holes;
}

test("a hole without a gap is seen by the check", () => {
  const trade = (t) => ({ type: "data", data: { t } });
  assert.equal(check([trade(1), trade(2), { type: "gap" }, trade(9)]), 0);
  assert.equal(check([trade(1), trade(3)]), 1);
  assert.equal(check([trade(1), trade(1)]), 1);
});

test("tabs share one socket, and when one goes the others are told of a gap and go on", async () => {
  const first = await listen(context, TRADES);
  await runs(first);
  const second = await listen(context, TRADES);
  const third = await listen(context, "ethusdt@trade");
  await Promise.all([runs(second), runs(third)]);
  assert.equal(await clients(), 1);
  assert.equal(await count(second, "gap"), 0);
  await first.close();
  for (const page of [second, third]) {
    const [gap] = await until("there is a gap", async () => (await heard(page, "gap")).slice(0, 1)[0] && heard(page, "gap"));
    assert.equal(gap.reason, "offline");
    const before = await count(page, "data");
    await until("it goes on", async () => (await count(page, "data")) > before + 3);
    assert.equal(check(await page.evaluate(() => window.heard)), 0);
    assert.deepEqual(page.complaints, []);
  }
  assert.equal(await clients(), 1);
});

test("names are read for as long as somebody listens", async () => {
  const page = await listen(context, TRADES);
  await page.evaluate((name) => (window.again = window.gateway.subscribe(name, () => {})), TRADES);
  await runs(page);
  await page.evaluate(() => window.stop());
  const after = await count(page, "data");
  await page.evaluate((name) => {
    window.stop = window.gateway.subscribe(name, (event) => window.heard.push(event));
  }, TRADES);
  await until("it is heard at once", async () => (await count(page, "data")) > after);
  await page.evaluate(() => [window.stop(), window.again()]);
  await page.evaluate(() => window.gateway.close());
  await until("the socket is gone", async () => (await clients()) === 0);
});

test("what is dropped and taken up again at once has no hole without a gap", async () => {
  const page = await listen(context, TRADES);
  await runs(page);
  await page.evaluate(async (name) => {
    for (let turn = 0; turn < 20; turn += 1) {
      window.stop();
      window.heard.push({ type: "gap" }); // It was we who parted.
      window.stop = window.gateway.subscribe(name, (event) => window.heard.push(event));
      await new Promise((resolve) => setTimeout(resolve, 10 * (turn % 4)));
    }
  }, TRADES);
  const before = await count(page, "data");
  await until("it goes on", async () => (await count(page, "data")) > before + 20);
  assert.equal(check(await page.evaluate(() => window.heard)), 0);
});

test("a link that was cut comes back by itself, with one gap", async () => {
  const page = await listen(context, TRADES);
  await runs(page);
  await move("close");
  await until("it is not live", () => page.evaluate(() => window.gateway.status !== "live"));
  await move("open");
  await until("it is live", () => page.evaluate(() => window.gateway.status === "live"));
  await until("there is a gap", async () => (await count(page, "gap")) > 0);
  const gaps = await heard(page, "gap");
  assert.deepEqual(gaps.map((gap) => gap.reason), ["offline"]);
  assert.ok(gaps[0].down_ms > 0);
  const before = await count(page, "data");
  await until("it goes on", async () => (await count(page, "data")) > before + 3);
  assert.equal(check(await page.evaluate(() => window.heard)), 0);
});

test("upstream's gaps come through, and part nobody", async () => {
  const page = await listen(context, TRADES);
  await runs(page);
  await move("lose");
  const gaps = await until("there is a gap", async () => (await heard(page, "gap")).length && heard(page, "gap"));
  assert.deepEqual(gaps.map((gap) => gap.reason), ["reconnected"]);
  const before = await count(page, "data");
  await until("it goes on", async () => (await count(page, "data")) > before + 3);
  assert.deepEqual(await page.evaluate(() => window.states.at(-1)), "live");
  assert.equal(check(await page.evaluate(() => window.heard)), 0);
});

test("without a socket the latest message is asked for, and marked", async () => {
  const page = await open(context, "try");
  await page.routeWebSocket(/./, (socket) => socket.close());
  await page.evaluate(async (name) => {
    const { Gateway } = await import("./client.js");
    window.gateway = new Gateway({ pollInterval: 200, share: false });
    window.heard = [];
    window.gateway.subscribe(name, (event) => window.heard.push(event));
  }, TRADES);
  const polled = await until("it polls", async () => (await heard(page, "data")).length > 1 && heard(page, "data"));
  assert.ok(polled.every((event) => event.polled));
  assert.equal(await page.evaluate(() => window.gateway.status), "offline");
  await page.evaluate(() => window.gateway.close());
});

test("a page that is left lets go of its socket, and takes it up when it is shown again", async () => {
  const page = await listen(context, TRADES);
  await runs(page);
  await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
  await until("the socket is gone", async () => (await clients()) === 0);
  await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
  await until("there is a gap", async () => (await count(page, "gap")) > 0);
  const before = await count(page, "data");
  await until("it goes on", async () => (await count(page, "data")) > before + 3);
});

test("what cannot be a name is refused at once", async () => {
  const page = await listen(context, TRADES);
  for (const name of ["", "a\nb", "a\u0085"]) {
    const refused = await page.evaluate((name) => {
      try {
        return void window.gateway.subscribe(name, () => {});
      } catch (error) {
        return error.name;
      }
    }, name);
    assert.equal(refused, "TypeError");
  }
});
