/**
 * Streams of a wsmux gateway, in a browser.
 *
 *     import { Gateway } from "/client.js";
 *
 *     const gateway = new Gateway();
 *     const stop = gateway.subscribe("btcusdt@trade", (event) => {
 *       if (event.type === "data") draw(event.data);
 *       if (event.type === "gap") reload(); // Messages are missing here.
 *     });
 *
 * What always holds:
 *
 * - Names are subscribed to by count: the first listener subscribes, the last to go unsubscribes.
 * - All tabs of a browser share one socket, where it has Web Locks and BroadcastChannel: the tab that holds
 *   the lock has it. When that tab goes, another takes over, and each listener is told of a gap.
 * - No silent loss: whatever parts a name from the server, its listeners are told by a gap, in its place.
 * - It comes back by itself, after full jitter; and while it cannot, it asks for the latest message of each
 *   name now and then.
 * - A page that is put aside lets go of its socket, and takes it up again when it is shown again.
 *
 * It depends on nothing. Its types are in its comments: `tsc --allowJs --checkJs` reads them.
 */

/**
 * @typedef {object} Options
 * @property {string | URL} [url] Where the gateway is. By default, where this file came from.
 * @property {() => string | Promise<string>} [token] Who the user is: asked for a token before each attempt.
 * @property {boolean} [share] Whether tabs share one socket. By default they do.
 * @property {number} [pollInterval] How often the latest messages are asked for while there is no socket, in
 *   ms; 0 for never. 5,000 by default.
 */

/**
 * @typedef {object} Data A message. It has one of `data`, which was JSON, `text` and `bytes`.
 * @property {"data"} type
 * @property {string} name
 * @property {any} [data]
 * @property {string} [text]
 * @property {Uint8Array} [bytes]
 * @property {boolean} [polled] Whether it was asked for: others may have come since the one before.
 */

/**
 * @typedef {object} Gap Messages are, or may be, missing here.
 * @property {"gap"} type
 * @property {string} name
 * @property {string} reason `slow`, `conflated`, `lagged`, `reconnected`, `sequence` or `offline`: as the
 *   gateway says, the last by this file.
 * @property {number} [missed] How many, where that is known.
 * @property {number} [down_ms] For how long.
 */

/**
 * @typedef {object} NameStatus What the name is doing at the gateway.
 * @property {"status"} type
 * @property {string} name
 * @property {"connecting" | "open" | "closed"} status
 */

/**
 * @typedef {object} Refused The name is not read, or not any more.
 * @property {"error"} type
 * @property {string} name
 * @property {string} code
 * @property {string} message
 */

/** @typedef {Data | Gap | NameStatus | Refused} StreamEvent */
/** @typedef {(event: StreamEvent) => void} Listener */
/** @typedef {"live" | "connecting" | "offline"} Status */
/** @typedef {{type: string, name?: string, names?: string[], [key: string]: any}} Frame */
/** @typedef {{frame: (frame: Frame) => void, status: (status: Status) => void}} Outlet */

const BASE_DELAY = 1_000;
const MAX_DELAY = 30_000;
const MIN_DELAY = 100;
/** A socket that was open for so long was of use: the next delays begin anew. */
const STABLE = 10_000;
/** Failures in a row after which nobody should go on calling it "connecting". */
const PATIENCE = 2;
/** A browser answers pings by itself and tells nobody: what is silent for so long is asked. */
const SILENCE = 20_000;
const ANSWER = 10_000;
const OPENING = 10_000;
/** When a name that was not to be had may be there. */
const AGAIN = 5_000;
/** Names in one frame: far below what a gateway takes. */
const BATCH = 500;
/** Close codes. RFC 6455, section 7.4.2 leaves 4000 to 4999 to applications. */
const NORMAL = 1000;
const UNAUTHORIZED = 4401;

/**
 * A gateway, as a page holds it. Fires `status` events.
 */
export class Gateway extends EventTarget {
  /** @type {Map<string, Name>} */
  #names = new Map();
  /** @type {Status} */
  #status = "connecting";
  /** @type {Lane | Family | null} */
  #link = null;
  /** @type {Options} */
  #options;
  #base;
  #closed = false;

  /** @param {Options} [options] */
  constructor(options = {}) {
    super();
    this.#options = options;
    this.#base = new URL(".", new URL(options.url ?? import.meta.url, globalThis.location?.href));
    globalThis.addEventListener?.("pagehide", this.#hidden);
    globalThis.addEventListener?.("pageshow", this.#shown);
  }

  /** Whether messages come: `live`, `connecting`, or `offline`, when they are polled for at best. */
  get status() {
    return this.#status;
  }

  /**
   * Calls `listener` for all that comes of `name`, until the function that is returned is called.
   *
   * @param {string} name
   * @param {Listener} listener
   * @returns {() => void}
   */
  subscribe(name, listener) {
    if (this.#closed) throw new Error("the gateway is closed");
    // What the server would not take for a name, and could not name in its answer.
    if (name === "" || /\p{Cc}/u.test(name)) throw new TypeError("a name has a letter at least, and no control characters");
    let known = this.#names.get(name);
    if (!known) this.#names.set(name, (known = new Name(name)));
    const one = { listener }; // The same function may listen twice.
    known.listeners.add(one);
    this.#tell();
    return () => {
      if (!known.listeners.delete(one) || known.listeners.size > 0) return;
      // A name that was dropped and taken up again is another one.
      if (this.#names.get(name) === known) this.#names.delete(name);
      this.#tell();
    };
  }

  /** Lets go of everything, for good. */
  close() {
    this.#closed = true;
    globalThis.removeEventListener?.("pagehide", this.#hidden);
    globalThis.removeEventListener?.("pageshow", this.#shown);
    this.#names.clear();
    this.#let_go();
  }

  #hidden = () => this.#let_go();

  #shown = () => this.#tell();

  #let_go() {
    this.#link?.close();
    this.#link = null;
    this.#now("connecting");
  }

  #tell() {
    if (!this.#link && this.#names.size === 0) return;
    this.#link ??= this.#open();
    this.#link.want([...this.#names.keys()]);
  }

  #open() {
    const shares = (this.#options.share ?? true) && globalThis.navigator?.locks && globalThis.BroadcastChannel;
    const outlet = { frame: (/** @type {Frame} */ frame) => this.#heard(frame), status: (/** @type {Status} */ status) => this.#now(status) };
    return shares ? new Family(this.#base, this.#options, outlet) : new Lane(this.#base, this.#options, outlet);
  }

  /** @param {Status} status */
  #now(status) {
    if (status !== "live") for (const name of this.#names.values()) name.broken();
    if (status === this.#status) return;
    this.#status = status;
    this.dispatchEvent(new Event("status"));
  }

  /** @param {Frame} frame */
  #heard(frame) {
    if (frame.type === "ack") {
      for (const name of frame.names ?? []) this.#names.get(name)?.joined();
    } else if (frame.name !== undefined) {
      this.#names.get(frame.name)?.heard(frame);
    }
  }
}

/** A name that somebody listens to. */
class Name {
  /** @type {Set<{listener: Listener}>} */
  listeners = new Set();
  /** Whether its messages come. */
  #joined = false;
  /** @type {number | null} Since when they do not any more. */
  #broken = null;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  joined() {
    if (this.#broken !== null) {
      const down_ms = Math.round(performance.now() - this.#broken);
      this.#emit({ type: "gap", name: this.name, reason: "offline", down_ms });
    }
    this.#joined = true;
    this.#broken = null;
  }

  broken() {
    if (this.#joined) this.#broken ??= performance.now();
    this.#joined = false;
  }

  /** @param {Frame} frame */
  heard(frame) {
    // What was asked for before the socket came is old by now.
    if (frame.polled && this.#joined) return;
    const { base64, ...rest } = frame;
    if (base64 !== undefined) rest.bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    if (frame.type === "error") this.#joined = false;
    this.#emit(/** @type {StreamEvent} */ (rest));
  }

  /** @param {StreamEvent} event */
  #emit(event) {
    for (const { listener } of [...this.listeners]) {
      try {
        listener(event);
      } catch (error) {
        globalThis.reportError?.(error); // One listener that fails must not silence the others.
      }
    }
  }
}

/** One socket, again and again. */
class Lane {
  /** @type {Set<string>} What is wanted. */
  #wanted = new Set();
  /**
   * What the server was asked for on this socket, by the number of the word, and what it said to it.
   *
   * @type {Map<string, number | "joined" | Frame>}
   */
  #asked = new Map();
  #words = 0;
  /** @type {WebSocket | null} */
  #socket = null;
  #failures = 0;
  #refusals = 0;
  #open = false;
  #closed = false;
  #opened_at = 0;
  #heard_at = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #watching = false;
  #poller;

  /**
   * @param {URL} base
   * @param {Options} options
   * @param {Outlet} outlet
   */
  constructor(base, options, outlet) {
    this.base = base;
    this.options = options;
    this.outlet = outlet;
    this.#poller = new Poller(this, options.pollInterval ?? 5_000);
    globalThis.addEventListener?.("online", this.#hurry);
    outlet.status("connecting");
    this.#dial();
  }

  /** @param {string[]} names */
  want(names) {
    this.#wanted = new Set(names);
    this.#ask();
  }

  get wanted() {
    return this.#wanted;
  }

  /**
   * What is known of a name that is wanted already: that it is joined, or why it was refused.
   *
   * @param {string} name
   * @returns {Frame | undefined}
   */
  known(name) {
    const said = this.#asked.get(name);
    return said === "joined" ? { type: "ack", names: [name] } : typeof said === "object" ? said : undefined;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#poller.stop();
    globalThis.removeEventListener?.("online", this.#hurry);
    this.#drop(NORMAL);
  }

  /** Headers that say who the user is. */
  async headers() {
    /** @type {Record<string, string>} */
    const headers = {};
    if (this.options.token) headers.authorization = `Bearer ${await this.options.token()}`;
    return headers;
  }

  #hurry = () => {
    if (!this.#socket && this.#timer !== undefined) this.#after(MIN_DELAY * Math.random());
  };

  /** @param {number} delay */
  #after(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#dial(), delay);
  }

  async #dial() {
    this.#timer = undefined;
    let url;
    try {
      url = await this.#address();
    } catch {
      if (!this.#closed) this.#failed();
      return;
    }
    if (this.#closed || this.#socket) return;
    /** @type {WebSocket} */
    let socket;
    try {
      socket = new WebSocket(url);
    } catch {
      return this.#failed(); // A page over TLS may not open a socket without.
    }
    this.#socket = socket;
    this.#asked.clear();
    this.#timer = setTimeout(() => this.#lost(socket, 0), OPENING);
    socket.onopen = () => this.#opened(socket);
    socket.onmessage = (event) => this.#message(socket, event.data);
    socket.onclose = (event) => this.#lost(socket, event.code);
  }

  /** Where to dial. A page cannot set headers: its token is exchanged for a ticket, which is good once. */
  async #address() {
    const url = new URL("ws", this.base);
    url.protocol = url.protocol === "https:" || url.protocol === "wss:" ? "wss:" : "ws:";
    if (this.options.token) {
      const headers = await this.headers();
      const http = new URL("ticket", httpBase(this.base));
      const response = await fetch(http, { method: "POST", headers, cache: "no-store" });
      if (!response.ok) throw new Error(`no ticket: ${response.status}`);
      url.searchParams.set("ticket", (await response.json()).ticket);
    }
    return url;
  }

  /** @param {WebSocket} socket */
  #opened(socket) {
    if (socket !== this.#socket) return;
    this.#open = true;
    this.#opened_at = performance.now();
    this.#poller.stop();
    this.#heard();
    this.outlet.status("live");
    this.#ask();
  }

  /**
   * @param {WebSocket} socket
   * @param {any} data
   */
  #message(socket, data) {
    if (socket !== this.#socket || typeof data !== "string") return;
    this.#heard();
    const frame = /** @type {Frame} */ (JSON.parse(data));
    const { id, name, names = [], type } = frame;
    if (type === "ack") {
      // One that was taken back since is none: what it lets through ends again.
      const joined = names.filter((one) => this.#asked.get(one) === id);
      for (const one of joined) this.#asked.set(one, "joined");
      return this.outlet.frame({ type, names: joined });
    }
    if (name === undefined) return;
    if (type === "error") this.#refused(name, frame, socket);
    else if (type !== "status" && this.#asked.get(name) !== "joined") return; // The rest of an earlier one.
    this.outlet.frame(frame);
  }

  /**
   * A name is not read. If that may change, it is asked for again in a while.
   *
   * @param {string} name
   * @param {Frame} frame
   * @param {WebSocket} socket
   */
  #refused(name, frame, socket) {
    if (!this.#asked.has(name)) return;
    this.#asked.set(name, frame);
    if (frame.code !== "unavailable" && frame.code !== "ended") return;
    setTimeout(() => {
      if (socket !== this.#socket || this.#asked.get(name) !== frame) return;
      this.#asked.delete(name);
      this.#ask();
    }, AGAIN * (1 + Math.random()));
  }

  /** Something came: the next thing is due. */
  #heard() {
    this.#heard_at = performance.now();
    if (!this.#watching) this.#watch(SILENCE);
  }

  /**
   * Looks after `wait` whether anything has come. A timer that is moved with each message would cost more
   * than the message.
   *
   * @param {number} wait
   */
  #watch(wait) {
    clearTimeout(this.#timer);
    this.#watching = true;
    const since = this.#heard_at;
    this.#timer = setTimeout(() => {
      const socket = this.#socket;
      if (!socket) return;
      const silent = performance.now() - this.#heard_at;
      if (this.#heard_at !== since && silent < SILENCE) return this.#watch(SILENCE - silent);
      if (wait === ANSWER && this.#heard_at === since) return this.#lost(socket, 0);
      this.#say({ type: "ping" });
      this.#watch(ANSWER);
    }, wait);
  }

  /**
   * @param {WebSocket} socket
   * @param {number} code
   */
  #lost(socket, code) {
    if (socket !== this.#socket) return;
    const was_stable = this.#open && performance.now() - this.#opened_at >= STABLE;
    this.#drop(NORMAL);
    if (this.#closed) return;
    if (was_stable) [this.#failures, this.#refusals] = [0, 0];
    // A token that was good and is not any more is asked for again; one that never was is no hot loop.
    if (code === UNAUTHORIZED && this.options.token && this.#refusals++ === 0) {
      this.outlet.status("connecting");
      return this.#after(MIN_DELAY * Math.random());
    }
    this.#failed();
  }

  #failed() {
    const ceiling = Math.min(MAX_DELAY, BASE_DELAY * 2 ** Math.min(this.#failures, 16));
    this.#failures += 1;
    const is_offline = this.#failures > PATIENCE || globalThis.navigator?.onLine === false;
    this.outlet.status(is_offline ? "offline" : "connecting");
    if (is_offline) this.#poller.start();
    this.#after(Math.max(MIN_DELAY, Math.random() * ceiling));
  }

  /** @param {number} code */
  #drop(code) {
    const socket = this.#socket;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#watching = false;
    this.#open = false;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  #ask() {
    if (!this.#open) return;
    const joins = [...this.#wanted].filter((name) => !this.#asked.has(name));
    const leaves = [...this.#asked.keys()].filter((name) => !this.#wanted.has(name));
    for (const name of leaves) this.#asked.delete(name);
    for (let at = 0; at < leaves.length; at += BATCH) {
      this.#say({ type: "unsubscribe", id: ++this.#words, names: leaves.slice(at, at + BATCH) });
    }
    for (let at = 0; at < joins.length; at += BATCH) {
      const names = joins.slice(at, at + BATCH);
      const id = ++this.#words;
      for (const name of names) this.#asked.set(name, id);
      this.#say({ type: "subscribe", id, names });
    }
  }

  /** @param {Frame} frame */
  #say(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }
}

/** Asks for the latest messages while there is no socket. */
class Poller {
  /** @type {Map<string, string>} */
  #etags = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #running = false;

  /**
   * @param {Lane} lane
   * @param {number} interval
   */
  constructor(lane, interval) {
    this.lane = lane;
    this.interval = interval;
  }

  start() {
    if (this.#running || !(this.interval > 0)) return;
    this.#running = true;
    this.#turn();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  async #turn() {
    for (const name of [...this.lane.wanted]) {
      if (!this.#running) return;
      await this.#poll(name).catch(() => {});
    }
    if (this.#running) this.#timer = setTimeout(() => this.#turn(), this.interval);
  }

  /** @param {string} name */
  async #poll(name) {
    const headers = await this.lane.headers();
    const etag = this.#etags.get(name);
    if (etag) headers["if-none-match"] = etag;
    const url = new URL(`snapshot/${encodeURIComponent(name)}`, httpBase(this.lane.base));
    const response = await fetch(url, { headers, cache: "no-store" });
    if (!response.ok || !this.#running) return;
    const frame = await payload(name, response);
    this.#etags.set(name, response.headers.get("etag") ?? "");
    if (this.#running) this.lane.outlet.frame({ ...frame, polled: true });
  }
}

/**
 * The tabs of a browser that share one socket. The lock goes to the one that has waited longest, whatever
 * becomes of the one before: a tab that crashes gives it back as one that closes does.
 */
class Family {
  #id = crypto.randomUUID();
  #channel;
  #leaving = new AbortController();
  /** @type {(() => void) | null} */
  #abdicate = null;
  /** @type {Lane | null} The socket, in the tab that leads. */
  #lane = null;
  /** @type {Map<string, string[]>} What each tab wants, in the tab that leads. */
  #wants = new Map();
  /** @type {string[]} */
  #names = [];
  /** Whether this tab's own lock is held: before, it would be taken for one that is gone. */
  #held = false;
  /** @type {Status} */
  #status = "connecting";

  /**
   * @param {URL} base
   * @param {Options} options
   * @param {Outlet} outlet
   */
  constructor(base, options, outlet) {
    this.outlet = outlet;
    const key = `wsmux ${base.href}`;
    this.key = key;
    this.#channel = new BroadcastChannel(key);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    const { signal } = this.#leaving;
    this.#hold(`${key} ${this.#id}`, signal);
    navigator.locks.request(key, { signal }, () => this.#lead(base, options)).catch(() => {});
  }

  /** @param {string[]} names */
  want(names) {
    this.#names = names;
    if (this.#lane) this.#wanted(this.#id, names);
    else this.#announce();
  }

  #announce() {
    if (this.#held) this.#channel.postMessage({ kind: "want", tab: this.#id, names: this.#names });
  }

  close() {
    this.#channel.postMessage({ kind: "want", tab: this.#id, names: [] });
    this.#lane?.close();
    this.#lane = null;
    this.#abdicate?.();
    this.#leaving.abort();
    this.#channel.close();
  }

  /**
   * Holds a lock for as long as this tab lives: who waits for it learns when the tab is gone.
   *
   * @param {string} name
   * @param {AbortSignal} signal
   */
  #hold(name, signal) {
    const held = (/** @type {(value?: unknown) => void} */ release) => {
      signal.addEventListener("abort", release);
      this.#held = true;
      this.#channel.postMessage({ kind: "hello" });
      if (!this.#lane) this.#announce();
    };
    navigator.locks.request(name, () => (signal.aborted ? undefined : new Promise(held))).catch(() => {});
  }

  /**
   * Leads the family, until this tab goes.
   *
   * @param {URL} base
   * @param {Options} options
   */
  #lead(base, options) {
    if (this.#leaving.signal.aborted) return;
    const everyone = {
      frame: (/** @type {Frame} */ frame) => this.#say({ kind: "frame", frame }),
      status: (/** @type {Status} */ status) => this.#say({ kind: "status", status }),
    };
    this.#lane = new Lane(base, options, everyone);
    this.#wanted(this.#id, this.#names);
    this.#channel.postMessage({ kind: "lead" });
    return new Promise((/** @type {(value?: unknown) => void} */ release) => (this.#abdicate = release));
  }

  /** To all tabs, this one too. @param {any} said */
  #say(said) {
    this.#channel.postMessage(said);
    this.#heard(said);
  }

  /** @param {any} said */
  #heard(said) {
    switch (said.kind) {
      case "frame":
        if (said.to === undefined || said.to === this.#id) this.outlet.frame(said.frame);
        return;
      case "status":
        this.#status = said.status;
        return this.outlet.status(said.status);
      case "lead": // Another tab has the socket now, and knows nothing of this one.
        this.outlet.status("connecting");
        return this.#announce();
      case "want":
        if (this.#lane) this.#wanted(said.tab, said.names);
        return;
      case "hello":
        if (this.#lane) this.#channel.postMessage({ kind: "status", status: this.#status });
    }
  }

  /**
   * @param {string} tab
   * @param {string[]} names
   */
  #wanted(tab, names) {
    const before = this.#wants.get(tab);
    if (names.length > 0) this.#wants.set(tab, names);
    else this.#wants.delete(tab);
    if (!before && names.length > 0 && tab !== this.#id) this.#watch(tab);
    const all = new Set([...this.#wants.values()].flat());
    this.#lane?.want([...all]);
    // What the server has said already, it does not say again.
    for (const name of names) {
      const frame = before?.includes(name) ? undefined : this.#lane?.known(name);
      if (frame) this.#say({ kind: "frame", frame, to: tab });
    }
  }

  /** Forgets a tab when it is gone. @param {string} tab */
  #watch(tab) {
    const { signal } = this.#leaving;
    const gone = () => this.#wanted(tab, []);
    navigator.locks.request(`${this.key} ${tab}`, { signal }, gone).catch(() => {});
  }
}

/** @param {URL} base */
function httpBase(base) {
  const url = new URL(base);
  url.protocol = url.protocol === "wss:" || url.protocol === "https:" ? "https:" : "http:";
  return url;
}

/**
 * The message of a snapshot.
 *
 * @param {string} name
 * @param {Response} response
 * @returns {Promise<Frame>}
 */
async function payload(name, response) {
  const kind = response.headers.get("content-type") ?? "";
  if (kind.startsWith("application/json")) return { type: "data", name, data: await response.json() };
  if (kind.startsWith("text/")) return { type: "data", name, text: await response.text() };
  return { type: "data", name, bytes: new Uint8Array(await response.arrayBuffer()) };
}
