//! Coinbase Advanced Trade: channels, confirmed by lists of all that a socket has.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;

/// How long a socket may stay without a first call.
const FIRST: Duration = Duration::from_secs(5);
const BEAT: Duration = Duration::from_secs(1);
/// How many messages an address may send in a second.
const MOST: usize = 8;
const TOKEN: &str = "token";

/// A server of [Coinbase Advanced
/// Trade](https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview): a
/// socket under `/user` is private, all others are of the market. Run it by a [`Mock`](super::Mock).
///
/// Every product exists, unless it is [unknown](Self::unknown): that is left out, or [refused by an
/// error](Self::by_errors). All messages of a socket but errors are numbered. `level2` begins with a
/// snapshot, and arrives as `l2_data`. The token that it takes is `token`, or what is
/// [set](Self::token). Sockets without a call within 5 s are closed. Clients are audited: for messages
/// that are no calls, private channels without a token, tokens on market sockets, what is asked for twice
/// or left without being there, more than eight messages in a second on a socket, and sockets that
/// never ask for `heartbeats`.
#[derive(Debug)]
pub struct MockCoinbase {
    by_errors: bool,
    deaf: bool,
    early: bool,
    refusals: Vec<String>,
    sockets: BTreeMap<SocketId, Line>,
    token: String,
    unknown: HashSet<String>,
}

/// A socket.
#[derive(Debug)]
struct Line {
    beat: Instant,
    /// What is subscribed to; channels without products have none.
    channels: BTreeMap<String, BTreeSet<String>>,
    /// By when the first call has to come.
    first: Option<Instant>,
    is_private: bool,
    said: VecDeque<Instant>,
    sequence: u64,
}

impl Default for MockCoinbase {
    fn default() -> Self {
        Self {
            by_errors: false,
            deaf: false,
            early: false,
            refusals: Vec::new(),
            sockets: BTreeMap::new(),
            token: TOKEN.to_owned(),
            unknown: HashSet::new(),
        }
    }
}

impl Line {
    fn numbered(&mut self, channel: &str, events: &Value) -> String {
        let number = self.sequence;
        self.sequence += 1;
        json!({"channel": channel, "client_id": "", "sequence_num": number, "events": events})
            .to_string()
    }

    fn has(&self, channel: &str, product: &str) -> bool {
        self.channels.get(channel).is_some_and(|of| of.is_empty() || of.contains(product))
    }

    fn list(&mut self) -> String {
        let channels = self.channels.iter().map(|(channel, products)| {
            let products: Vec<_> = products.iter().cloned().collect();
            (channel.clone(), if products.is_empty() { json!([channel]) } else { json!(products) })
        });
        let channels: serde_json::Map<_, _> = channels.collect();
        self.numbered("subscriptions", &json!([{"subscriptions": channels}]))
    }
}

impl MockCoinbase {
    /// Says a row of each product to all who have one of them, in one message, and tells how many those
    /// are. A channel without products has one row, of any.
    pub fn publish(&mut self, channel: &str, rows: &[(&str, u32)], out: &mut Out) -> usize {
        let events = events(channel, "update", rows);
        let mut told = 0;
        for (socket, line) in &mut self.sockets {
            if rows.iter().any(|(product, _)| line.has(channel, product)) {
                out.send(*socket, line.numbered(arrives(channel), &events));
                told += 1;
            }
        }
        told
    }

    /// Loses the next message of each socket.
    pub fn lose(&mut self) {
        self.sockets.values_mut().for_each(|line| line.sequence += 1);
    }

    /// Does not serve `product`.
    pub fn unknown(&mut self, product: &str) {
        self.unknown.insert(product.to_owned());
    }

    /// Whether a call with an unknown product is refused as a whole, by an error, from now on.
    pub fn by_errors(&mut self, by_errors: bool) {
        self.by_errors = by_errors;
    }

    /// Refuses the next call with `words`; called again, the one after it too.
    pub fn refuse_next(&mut self, words: &str) {
        self.refusals.push(words.to_owned());
    }

    /// Whether snapshots come before the list with their product, from now on.
    pub fn early(&mut self, early: bool) {
        self.early = early;
    }

    /// Whether heartbeats have stopped.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// From now on, the token that private calls need.
    pub fn token(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// What is subscribed to now, but heartbeats, once for each socket.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let channels = self.sockets.values().flat_map(|line| &line.channels);
        let names = channels.filter(|(channel, _)| *channel != "heartbeats").flat_map(
            |(channel, products)| match products.is_empty() {
                true => vec![channel.clone()],
                false => products.iter().map(|product| format!("{channel}:{product}")).collect(),
            },
        );
        names.collect()
    }

    fn call(&mut self, socket: SocketId, call: &Value, out: &mut Out) -> Option<()> {
        let joins = match call["type"].as_str()? {
            "subscribe" => true,
            "unsubscribe" => false,
            _ => return None,
        };
        let channel = call["channel"].as_str()?;
        let products: Vec<_> = match call.get("product_ids") {
            Some(products) => products.as_array()?.iter().filter_map(Value::as_str).collect(),
            None => Vec::new(),
        };
        let line = self.sockets.get_mut(&socket)?;
        line.first = None;
        let wants_token = matches!(channel, "user" | "futures_balance_summary");
        match (call["jwt"].as_str(), line.is_private) {
            (Some(_), false) => out.fault(socket, "a token on a market socket"),
            (token, true) if wants_token && token != Some(&*self.token) => {
                out.answer(socket, error("authentication failure"));
                return Some(());
            }
            _ => {}
        }
        if !self.refusals.is_empty() && channel != "heartbeats" {
            let words = self.refusals.remove(0);
            out.answer(socket, error(&words));
            return Some(());
        }
        let is_bad = |product: &&str| joins && self.unknown.contains(*product);
        let (bad, good): (Vec<&str>, Vec<&str>) = products.iter().copied().partition(is_bad);
        if !bad.is_empty() && self.by_errors {
            out.answer(socket, error("invalid product"));
            return Some(());
        }
        self.change(socket, channel, joins, &good, out);
        Some(())
    }

    fn change(&mut self, id: SocketId, channel: &str, joins: bool, of: &[&str], out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&id) else { return };
        let is_whole = matches!(channel, "heartbeats" | "user" | "futures_balance_summary");
        let did = if joins {
            let known = line.channels.contains_key(channel);
            let products = line.channels.entry(channel.to_owned()).or_default();
            if is_whole { !known } else { of.iter().all(|of| products.insert((*of).to_owned())) }
        } else {
            let is_unknown = |product: &str| self.unknown.contains(product);
            match line.channels.get_mut(channel) {
                Some(products) => of.iter().all(|of| products.remove(*of) || is_unknown(of)),
                None => !of.is_empty() && of.iter().all(|of| is_unknown(of)),
            }
        };
        if line.channels.get(channel).is_some_and(|of| of.is_empty() && !(is_whole && joins)) {
            line.channels.remove(channel);
        }
        if !did {
            out.fault(id, format!("{channel} {of:?} is joined or left once more"));
        }
        let snapshots: Vec<_> = of.iter().filter(|_| joins && channel == "level2").collect();
        let events: Vec<_> =
            snapshots.iter().map(|product| events(channel, "snapshot", &[(product, 0)])).collect();
        // What is numbered goes out in the order of its numbers.
        let snapshot = |line: &mut Line, out: &mut Out| {
            for events in &events {
                let text = line.numbered(arrives(channel), events);
                out.answer(id, text);
            }
        };
        if self.early {
            snapshot(line, out);
        }
        out.answer(id, line.list());
        if !self.early {
            snapshot(line, out);
        }
    }
}

fn arrives(channel: &str) -> &str {
    if channel == "level2" { "l2_data" } else { channel }
}

fn events(channel: &str, kind: &str, rows: &[(&str, u32)]) -> Value {
    let list = |name: &str, field: &str| {
        let rows: Vec<_> =
            rows.iter().map(|(product, n)| json!({field: product, "n": n})).collect();
        json!([{"type": kind, name: rows}])
    };
    match channel {
        "level2" => {
            let event =
                |(product, n): &(&str, u32)| json!({"type": kind, "product_id": product, "n": n});
            rows.iter().map(event).collect()
        }
        "market_trades" => list("trades", "product_id"),
        "candles" => list("candles", "product_id"),
        "status" => list("products", "id"),
        "user" => list("orders", "product_id"),
        _ => list("tickers", "product_id"),
    }
}

fn error(words: &str) -> String {
    json!({"type": "error", "message": words}).to_string()
}

impl Service for MockCoinbase {
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let (now, is_private) = (out.now(), dial.path.contains("/user"));
        let (channels, said) = (BTreeMap::new(), VecDeque::new());
        let first = Some(now + FIRST);
        let line = Line { beat: now + BEAT, channels, first, is_private, said, sequence: 0 };
        self.sockets.insert(socket, line);
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        let now = out.now();
        line.said.push_back(now);
        while line.said.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            line.said.pop_front();
        }
        if line.said.len() > MOST {
            out.fault(socket, "more than eight messages in a second");
        }
        let call = serde_json::from_str(message.as_text().unwrap_or_default());
        if self.call(socket, &call.unwrap_or_default(), out).is_none() {
            out.fault(socket, format!("no call: {message:?}"));
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        let due = |line: &Line| line.first.map_or(line.beat, |first| first.min(line.beat));
        self.sockets.values().map(due).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        self.sockets.retain(|socket, line| {
            if line.first.is_some_and(|first| first <= now) {
                out.fault(*socket, "no call came within 5 s");
                out.close(*socket, 1008, "no subscription");
                return false;
            }
            if line.beat <= now {
                line.beat = now + BEAT;
                if line.channels.contains_key("heartbeats") {
                    if !self.deaf {
                        let beat = line.numbered("heartbeats", &json!([{"heartbeat_counter": 42}]));
                        out.send(*socket, beat);
                    }
                } else if !line.channels.is_empty() {
                    out.fault(*socket, "without heartbeats");
                }
            }
            true
        });
    }
}
