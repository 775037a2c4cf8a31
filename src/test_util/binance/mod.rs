//! A server of Binance's combined streams, on one socket many names.

mod api;
mod feed;
mod line;
mod rules;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tokio::time::Instant;

use self::feed::Feed;
use self::line::Line;
use self::rules::Rules;
use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;
use crate::transport::Frame;

pub use api::MockBinanceApi;

/// What one message may have ("Payload too long" on a bad day, and silence on others).
const MESSAGE: usize = 4088;
/// What a URL may have, with 60 for scheme and host.
const TARGET: usize = 8004 - 60;
/// How many requests are kept.
const KEPT: usize = 10_000;

/// Binance's market streams: `/ws` and `/stream`, and with [`usd_m`](Self::usd_m) the same below
/// `/public` and `/market`. Run it by a [`Mock`](super::Mock).
///
/// Any name is confirmed, as on Binance: one that does not exist, or is asked for on the wrong path,
/// stays silent. What is sent is said by [`next`](Self::next) or [`publish`](Self::publish); the
/// messages of a name are numbered, whoever gets them.
///
/// It pings each 20 s (futures: 3 min), ends a socket that does not answer with the same payload
/// within a minute (10 min), one that says more than 5 (10) frames in any second, pings and pongs
/// included, and each after 24 hours. Clients are audited: for these, for names asked for twice or
/// left without being asked for, more than 1,024 names on a socket, URLs of more than 8,004
/// characters, and messages of more than 4,088 bytes, which have no answer.
#[derive(Debug)]
pub struct MockBinance {
    feeds: HashMap<String, Feed>,
    refused: HashMap<String, String>,
    requests: Vec<(SocketId, String, Vec<String>)>,
    rules: Rules,
    sockets: BTreeMap<SocketId, Line>,
    without_id: bool,
}

impl Default for MockBinance {
    fn default() -> Self {
        Self::spot()
    }
}

impl MockBinance {
    /// Spot.
    #[must_use]
    pub fn spot() -> Self {
        Self::with(Rules::SPOT)
    }

    /// USDⓈ-M futures.
    #[must_use]
    pub fn usd_m() -> Self {
        Self::with(Rules::FUTURES)
    }

    fn with(rules: Rules) -> Self {
        let (feeds, refused) = (HashMap::new(), HashMap::new());
        let (requests, sockets) = (Vec::new(), BTreeMap::new());
        Self { feeds, refused, requests, rules, sockets, without_id: false }
    }

    /// The next message of `name` (`trade`, `aggTrade`, `bookTicker` or `depth` of a symbol), to
    /// all who have it; returns its payload.
    pub fn next(&mut self, name: &str, out: &mut Out) -> String {
        let futures = self.rules.is_futures;
        let payload = self.feeds.entry(name.to_owned()).or_default().next(name, futures);
        self.publish(name, &payload, out);
        payload
    }

    /// The same, but nobody gets it.
    pub fn skip(&mut self, name: &str) {
        let futures = self.rules.is_futures;
        self.feeds.entry(name.to_owned()).or_default().next(name, futures);
    }

    /// Says `payload`, which is JSON, to all who have `name`, and tells how many sockets those are.
    pub fn publish(&mut self, name: &str, payload: &str, out: &mut Out) -> usize {
        let lines = self.sockets.iter().filter(|(_, line)| line.serves(name));
        let said = lines.map(|(socket, line)| out.send(*socket, line.data(name, payload)));
        said.count()
    }

    /// Says that it is about to shut down, on each socket that is open.
    pub fn shut_down(&mut self, out: &mut Out) {
        let payload = r#"{"e":"serverShutdown","E":1770123456789}"#;
        for (socket, line) in &self.sockets {
            out.send(*socket, line.data("!serverShutdown", payload));
        }
    }

    /// Refuses requests that have `name` in them.
    pub fn refuse(&mut self, name: &str, why: &str) {
        self.refused.insert(name.to_owned(), why.to_owned());
    }

    /// Whether failures name no request from now on.
    pub fn without_id(&mut self, without: bool) {
        self.without_id = without;
    }

    /// The names that each open socket has, in order of opening.
    #[must_use]
    pub fn names(&self) -> Vec<Vec<String>> {
        self.sockets.values().map(|line| line.names().map(Into::into).collect()).collect()
    }

    /// Method and parameters of each request so far, the first 10,000.
    #[must_use]
    pub fn requests(&self) -> Vec<(SocketId, String, Vec<String>)> {
        self.requests.clone()
    }

    fn answer(
        &mut self,
        socket: SocketId,
        request: &Value,
        out: &mut Out,
    ) -> Result<Value, String> {
        let method = request["method"].as_str().ok_or("Invalid request: missing field `method`")?;
        let line = self.sockets.get_mut(&socket).ok_or("gone")?;
        let names: Vec<String> = match request.get("params") {
            _ if matches!(method, "SET_PROPERTY" | "GET_PROPERTY") => Vec::new(),
            None => Vec::new(),
            Some(params) => serde_json::from_value(params.clone())
                .map_err(|_| "Invalid request: params are an array of names".to_owned())?,
        };
        if self.requests.len() < KEPT {
            self.requests.push((socket, method.to_owned(), names.clone()));
        }
        if let Some(why) = names.iter().find_map(|name| self.refused.get(name)) {
            return Err(why.clone());
        }
        match method {
            "SUBSCRIBE" => line.subscribe(socket, names, out),
            "UNSUBSCRIBE" => line.unsubscribe(socket, &names, out),
            "LIST_SUBSCRIPTIONS" => return Ok(line.names().collect()),
            "SET_PROPERTY" => {
                line.combined = request["params"][1].as_bool().ok_or("Invalid value type")?;
            }
            "GET_PROPERTY" => return Ok(line.combined.into()),
            _ => return Err(format!("Invalid request: unknown variant `{method}`")),
        }
        Ok(Value::Null)
    }
}

impl Service for MockBinance {
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let len = dial.path.len() + dial.query.as_ref().map_or(0, String::len);
        if len > TARGET {
            out.fault(socket, format!("a URL of {len} characters"));
            return out.drop_socket(socket);
        }
        let mut line = Line::new(dial, self.rules, out.now());
        line.subscribe(socket, line::in_url(dial), out);
        self.sockets.insert(socket, line);
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        line.heard(socket, out);
        if message.len() > MESSAGE {
            return out.fault(socket, format!("a message of {} bytes", message.len()));
        }
        let request = message.as_text().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let Some(request) = request else {
            out.fault(socket, format!("not JSON: {message:?}"));
            return out.answer(socket, r#"{"code":3,"msg":"Invalid JSON"}"#);
        };
        let answer = match self.answer(socket, &request, out) {
            Ok(result) => json!({"result": result, "id": request["id"]}),
            Err(why) if self.without_id => json!({"code": 2, "msg": why}),
            Err(why) => json!({"code": 2, "msg": why, "id": request["id"]}),
        };
        out.answer(socket, answer.to_string());
    }

    fn control(&mut self, socket: SocketId, frame: &Frame, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        line.heard(socket, out);
        if let Frame::Pong(payload) = frame {
            line.pong(socket, payload, out);
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.sockets.values().map(Line::due).min()
    }

    fn tick(&mut self, out: &mut Out) {
        self.sockets.iter_mut().for_each(|(socket, line)| line.tick(*socket, out));
    }
}
