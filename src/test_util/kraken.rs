//! Kraken's WebSocket API v2: channels, confirmed symbol by symbol.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;

/// How often a socket that has anything is told that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// When a token is refused by default that nobody has set.
const TOKEN: &str = "token";

/// A server of [Kraken](https://docs.kraken.com/exchange/guides/websockets/introduction)'s WebSocket API
/// v2: a socket under `/auth` is private, all others are public. Run it by a [`Mock`](super::Mock).
///
/// Every symbol exists, unless it is [unknown](Self::unknown). A socket is told the `status` first, and
/// a `heartbeat` each second once it has anything. A book begins with a snapshot; `executions` and
/// `balances` are numbered. The token that it takes is `token`, or what is [set](Self::token). Clients are audited: for
/// messages that are no calls, channels on the wrong host, a symbol that is asked for twice, leaving
/// what they do not have, and tokens on public sockets.
#[derive(Debug)]
pub struct MockKraken {
    deaf: bool,
    early: bool,
    nameless: bool,
    refusals: usize,
    sockets: BTreeMap<SocketId, Line>,
    token: String,
    unknown: HashSet<String>,
}

/// A socket.
#[derive(Debug)]
struct Line {
    beat: Instant,
    calls: usize,
    is_private: bool,
    /// What is subscribed to, as `channel` or `channel:symbol`, and its last number.
    names: HashMap<String, u64>,
}

impl Default for MockKraken {
    fn default() -> Self {
        Self {
            deaf: false,
            early: false,
            nameless: false,
            refusals: 0,
            sockets: BTreeMap::new(),
            token: TOKEN.to_owned(),
            unknown: HashSet::new(),
        }
    }
}

impl MockKraken {
    /// Says a row to all who have `name` (`channel:symbol`, or `channel`), and tells how many those are.
    pub fn publish(&mut self, name: &str, row: &Value, out: &mut Out) -> usize {
        let mut told = 0;
        for (socket, line) in &mut self.sockets {
            if let Some(last) = line.names.get_mut(name) {
                *last += 1;
                out.send(*socket, update(name, "update", row, *last).to_string());
                told += 1;
            }
        }
        told
    }

    /// Says rows of several symbols in one message, to all who have one of them.
    pub fn publish_rows(&mut self, channel: &str, rows: &[(&str, Value)], out: &mut Out) {
        let data: Vec<_> = rows.iter().map(|(symbol, row)| row_of(Some(symbol), row)).collect();
        let message = json!({"channel": channel, "type": "update", "data": data}).to_string();
        for (socket, line) in &self.sockets {
            if rows
                .iter()
                .any(|(symbol, _)| line.names.contains_key(&format!("{channel}:{symbol}")))
            {
                out.send(*socket, message.clone());
            }
        }
    }

    /// Loses the next message of a channel: nobody is told of it.
    pub fn lose(&mut self, name: &str) {
        for line in self.sockets.values_mut() {
            line.names.entry(name.to_owned()).and_modify(|last| *last += 1);
        }
    }

    /// Refuses the symbol of `name`: there is no such pair.
    pub fn unknown(&mut self, name: &str) {
        self.unknown.insert(name.to_owned());
    }

    /// Whether refusals name no symbol, from now on.
    pub fn nameless(&mut self, nameless: bool) {
        self.nameless = nameless;
    }

    /// Whether snapshots come before the confirmation of their channel, from now on.
    pub fn early(&mut self, early: bool) {
        self.early = early;
    }

    /// Whether heartbeats have stopped and pings stay without an answer.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// Leaves the next call undone, as one too many; called again, the one after it too.
    pub fn refuse_next(&mut self) {
        self.refusals += 1;
    }

    /// From now on, the token that calls need on private sockets.
    pub fn token(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// What is subscribed to now, once for each socket.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.sockets.values().flat_map(|line| line.names.keys().cloned()).collect();
        names.sort();
        names
    }

    /// How many calls there were on the sockets that are open.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.sockets.values().map(|line| line.calls).sum()
    }

    fn call(&mut self, socket: SocketId, call: &Value, out: &mut Out) -> Option<()> {
        let (method, params, id) = (call["method"].as_str()?, &call["params"], &call["req_id"]);
        let joins = match method {
            "ping" => {
                if !self.deaf {
                    out.send(socket, json!({"method": "pong", "req_id": id}).to_string());
                }
                return Some(());
            }
            "subscribe" => true,
            "unsubscribe" => false,
            _ => return None,
        };
        let channel = params["channel"].as_str()?;
        let line = self.sockets.get_mut(&socket)?;
        line.calls += 1;
        if self.refusals > 0 {
            self.refusals -= 1;
            out.answer(socket, json!({"Error": "Exceeded msg rate"}).to_string());
            return Some(());
        }
        let is_private = matches!(channel, "executions" | "balances");
        if is_private != line.is_private {
            out.fault(socket, format!("{channel} on the wrong host"));
        }
        match (params["token"].as_str(), is_private) {
            (Some(_), false) => out.fault(socket, "a token on a public socket"),
            (token, true) if token != Some(&*self.token) => {
                out.answer(socket, error(method, id, "EAPI:Invalid token", None));
                return Some(());
            }
            _ => {}
        }
        let symbols = params["symbol"].as_array().cloned().unwrap_or_else(|| vec![Value::Null]);
        for symbol in &symbols {
            match joins {
                true => self.subscribe(socket, channel, symbol.as_str(), call, out),
                false => self.unsubscribe(socket, channel, symbol.as_str(), id, out),
            }
        }
        Some(())
    }

    fn subscribe(
        &mut self,
        socket: SocketId,
        channel: &str,
        symbol: Option<&str>,
        call: &Value,
        out: &mut Out,
    ) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        let (name, id) = (name_of(channel, symbol), &call["req_id"]);
        if self.unknown.contains(&name) {
            let words = format!("Currency pair not supported {}", symbol.unwrap_or_default());
            let symbol = symbol.filter(|_| !self.nameless);
            return out.answer(socket, error("subscribe", id, &words, symbol));
        }
        if line.names.is_empty() {
            line.beat = out.now() + BEAT;
        }
        if line.names.contains_key(&name) {
            if !self.nameless {
                out.fault(socket, format!("{name} is asked for twice"));
            }
            return out.answer(socket, error("subscribe", id, "Already subscribed", symbol));
        }
        let has_snapshot = !matches!(channel, "trade");
        line.names.insert(name.clone(), u64::from(has_snapshot));
        let snapshot =
            has_snapshot.then(|| update(&name, "snapshot", &json!({"n": 0}), 1).to_string());
        let (early, later) = if self.early { (snapshot, None) } else { (None, snapshot) };
        early.into_iter().for_each(|snapshot| out.send(socket, snapshot));
        out.answer(socket, done("subscribe", id, channel, symbol));
        later.into_iter().for_each(|snapshot| out.answer(socket, snapshot));
    }

    fn unsubscribe(
        &mut self,
        socket: SocketId,
        channel: &str,
        symbol: Option<&str>,
        id: &Value,
        out: &mut Out,
    ) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        let name = name_of(channel, symbol);
        if line.names.remove(&name).is_some() {
            return out.answer(socket, done("unsubscribe", id, channel, symbol));
        }
        if !self.unknown.contains(&name) {
            out.fault(socket, format!("{name} is left, and is not there"));
        }
        out.answer(socket, error("unsubscribe", id, "Subscription Not Found", symbol));
    }
}

fn name_of(channel: &str, symbol: Option<&str>) -> String {
    symbol.map_or_else(|| channel.to_owned(), |symbol| format!("{channel}:{symbol}"))
}

fn row_of(symbol: Option<&str>, row: &Value) -> Value {
    let mut row = row.clone();
    if let Some(symbol) = symbol {
        row["symbol"] = symbol.into();
    }
    row
}

fn update(name: &str, kind: &str, row: &Value, number: u64) -> Value {
    let (channel, symbol) = match name.split_once(':') {
        Some((channel, symbol)) => (channel, Some(symbol)),
        None => (name, None),
    };
    let mut update = json!({"channel": channel, "type": kind, "data": [row_of(symbol, row)]});
    if matches!(channel, "executions" | "balances") {
        update["sequence"] = number.into();
    }
    update
}

fn done(method: &str, id: &Value, channel: &str, symbol: Option<&str>) -> String {
    let mut result = json!({"channel": channel});
    if let Some(symbol) = symbol {
        result["symbol"] = symbol.into();
    }
    json!({"method": method, "result": result, "success": true, "req_id": id}).to_string()
}

fn error(method: &str, id: &Value, words: &str, symbol: Option<&str>) -> String {
    let mut error = json!({"method": method, "error": words, "success": false, "req_id": id});
    if let Some(symbol) = symbol {
        error["symbol"] = symbol.into();
    }
    error.to_string()
}

impl Service for MockKraken {
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let is_private = dial.path.contains("/auth");
        let line = Line { beat: out.now() + BEAT, calls: 0, is_private, names: HashMap::new() };
        self.sockets.insert(socket, line);
        let online = json!({"system": "online", "api_version": "v2", "connection_id": 1});
        let status = json!({"channel": "status", "type": "update", "data": [online]});
        out.send(socket, status.to_string());
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let call = serde_json::from_str(message.as_text().unwrap_or_default());
        if self.call(socket, &call.unwrap_or_default(), out).is_none() {
            out.fault(socket, format!("no call: {message:?}"));
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        let beating = self.sockets.values().filter(|line| !line.names.is_empty() && !self.deaf);
        beating.map(|line| line.beat).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        for (socket, line) in &mut self.sockets {
            if line.beat <= now && !line.names.is_empty() && !self.deaf {
                line.beat = now + BEAT;
                out.send(*socket, r#"{"channel":"heartbeat"}"#);
            }
        }
    }
}
