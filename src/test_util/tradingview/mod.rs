//! A server of TradingView's chart socket.

mod bars;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use self::bars::History;
use self::wire::{frame, unframe, word};
use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;

/// How many commands are kept.
const KEPT: usize = 1000;
/// By when a heartbeat is to be answered.
const BEAT: Duration = Duration::from_secs(10);
/// What no client may split at a mark, nor count in bytes or characters.
const TRAP: &str = "é 🚀 ~m~3~m~";

/// TradingView's chart socket, as far as quotes and histories go: it begins with the id of its session, and
/// puts several packets into a frame, with texts in which only UTF-16 code units come out even. Run it by a
/// [`Mock`](super::Mock).
///
/// A history has bars one minute apart, whose prices are their numbers. Answers to histories come
/// [out of order](Self::reverse), [twice](Self::twice), [as failures](Self::fail), with
/// [lengths that lie](Self::lie), and late or never by [`Mock::answers`](super::Mock::answers).
///
/// Faults of clients: a frame that does not come out even, a command before `set_auth_token`, one for a
/// session that there is not, or that makes one a second time (these get a `protocol_error` and are closed),
/// a symbol asked for twice in a session, and a heartbeat that was not answered in 10 s.
#[derive(Debug)]
pub struct MockTradingView {
    beat: u64,
    commands: Vec<(String, Value)>,
    failing: BTreeMap<String, (String, String)>,
    greets: bool,
    held: BTreeMap<SocketId, Vec<Vec<String>>>,
    lie: i64,
    parts: usize,
    quoteless: BTreeSet<String>,
    reversed: usize,
    sockets: BTreeMap<SocketId, Line>,
    twice: bool,
    unknown: BTreeSet<String>,
}

/// A socket.
#[derive(Debug, Default)]
struct Line {
    /// The symbol that each chart session has resolved.
    charts: BTreeMap<String, Option<String>>,
    has_token: bool,
    is_closing: bool,
    /// The heartbeats that are not answered, and by when they are to be.
    owed: BTreeMap<String, Instant>,
    /// Sessions that have been, also those that were given back.
    past: BTreeSet<String>,
    /// The symbols of each quote session.
    quotes: BTreeMap<String, BTreeSet<String>>,
}

impl Default for MockTradingView {
    fn default() -> Self {
        Self {
            beat: 0,
            commands: Vec::new(),
            failing: BTreeMap::new(),
            greets: true,
            held: BTreeMap::new(),
            lie: 0,
            parts: 2,
            quoteless: BTreeSet::new(),
            reversed: 0,
            sockets: BTreeMap::new(),
            twice: false,
            unknown: BTreeSet::new(),
        }
    }
}

impl MockTradingView {
    /// Says `values` of `symbol` wherever it is wanted, and tells in how many sessions that is.
    pub fn publish(&mut self, symbol: &str, values: &Value, out: &mut Out) -> usize {
        self.quote(symbol, "ok", values, out)
    }

    /// The symbols whose quotes are wanted, each once.
    #[must_use]
    pub fn symbols(&self) -> BTreeSet<String> {
        let sessions = self.sockets.values().flat_map(|line| line.quotes.values());
        sessions.flatten().cloned().collect()
    }

    /// Gives `symbol` up wherever it is wanted.
    pub fn end(&mut self, symbol: &str, out: &mut Out) {
        self.quote(symbol, "error", &json!({}), out);
    }

    fn quote(&mut self, symbol: &str, state: &str, values: &Value, out: &mut Out) -> usize {
        let mut told = 0;
        for (socket, line) in &self.sockets {
            for (session, _) in line.quotes.iter().filter(|(_, symbols)| symbols.contains(symbol)) {
                let quote = quote(session, symbol, state, values);
                out.send(*socket, frame(&quote, self.lie));
                told += 1;
            }
        }
        told
    }

    /// From now on, the server does not have `symbol`.
    pub fn unknown(&mut self, symbol: &str) {
        self.unknown.insert(symbol.to_owned());
    }

    /// From now on, `symbol` begins without a quote.
    pub fn quoteless(&mut self, symbol: &str) {
        self.quoteless.insert(symbol.to_owned());
    }

    /// Answers histories of `symbol` by `method`, such as `series_error`, in these words.
    pub fn fail(&mut self, symbol: &str, method: &str, words: &str) {
        self.failing.insert(symbol.to_owned(), (method.to_owned(), words.to_owned()));
    }

    /// How many parts a history has from now on; 2 at first.
    pub fn parts(&mut self, parts: usize) {
        self.parts = parts.max(1);
    }

    /// Holds answers to histories back until `count` of a socket are there, and says the last first.
    pub fn reverse(&mut self, count: usize) {
        self.reversed = count;
    }

    /// Whether each history is answered twice from now on.
    pub fn twice(&mut self, twice: bool) {
        self.twice = twice;
    }

    /// From now on, lengths of packets are off by so many units.
    pub fn lie(&mut self, by: i64) {
        self.lie = by;
    }

    /// Whether sockets begin with the id of a session from now on.
    pub fn greet(&mut self, greets: bool) {
        self.greets = greets;
    }

    /// Says a heartbeat to all sockets.
    pub fn beat(&mut self, out: &mut Out) {
        self.beat += 1;
        let (beat, due) = (format!("~h~{}", self.beat), out.now() + BEAT);
        for (socket, line) in &mut self.sockets {
            out.send(*socket, frame(&beat, 0));
            line.owed.insert(beat.clone(), due);
        }
    }

    /// Says a `critical_error` of each session that there is.
    pub fn break_sessions(&mut self, words: &str, out: &mut Out) {
        for (socket, line) in &self.sockets {
            for session in line.charts.keys().chain(line.quotes.keys()) {
                let error = word("critical_error", &json!([session, words, "method: none"]));
                out.send(*socket, frame(&error, self.lie));
            }
        }
    }

    /// Method and arguments of each command so far, the first 1,000.
    #[must_use]
    pub fn commands(&self) -> &[(String, Value)] {
        &self.commands
    }

    /// How many sessions there are on all sockets: of charts, and of quotes.
    #[must_use]
    pub fn sessions(&self) -> (usize, usize) {
        let lines = self.sockets.values();
        lines.fold((0, 0), |(c, q), line| (c + line.charts.len(), q + line.quotes.len()))
    }

    /// Gives a socket up for a fault of its client's.
    fn give_up(&mut self, socket: SocketId, what: String, out: &mut Out) {
        if let Some(line) = self.sockets.get_mut(&socket) {
            line.is_closing = true;
        }
        out.send(socket, frame(&word("protocol_error", &json!([what])), 0));
        out.fault(socket, what);
        out.close(socket, 1000, "");
    }

    /// Carries a command out. `None` where the client is not to say it.
    fn obey(&mut self, socket: SocketId, method: &str, p: &Value, out: &mut Out) -> Option<()> {
        let line = self.sockets.get_mut(&socket)?;
        if method == "set_auth_token" {
            line.has_token = p[0].as_str()? == "unauthorized_user_token";
            return line.has_token.then_some(());
        }
        if !line.has_token {
            return None;
        }
        if method == "set_locale" {
            return Some(());
        }
        let session = p[0].as_str()?.to_owned();
        match method {
            "chart_create_session" => {
                line.past.insert(session.clone()).then_some(())?;
                line.charts.insert(session, None);
            }
            "quote_create_session" => {
                line.past.insert(session.clone()).then_some(())?;
                line.quotes.insert(session, BTreeSet::new());
            }
            "chart_delete_session" => drop(line.charts.remove(&session)?),
            "quote_delete_session" => drop(line.quotes.remove(&session)?),
            "resolve_symbol" => {
                let symbol = p[2].as_str()?.strip_prefix('=')?;
                let symbol: Value = serde_json::from_str(symbol).ok()?;
                *line.charts.get_mut(&session)? = Some(symbol["symbol"].as_str()?.to_owned());
            }
            "create_series" => {
                let symbol = line.charts.get(&session)?.clone()?;
                self.chart(socket, &History::read(&session, symbol, p)?, out);
            }
            "quote_set_fields" => drop(line.quotes.get(&session)?),
            "quote_add_symbols" => self.add(socket, &session, p, out)?,
            "quote_remove_symbols" => {
                let symbols = line.quotes.get_mut(&session)?;
                p.as_array()?[1..]
                    .iter()
                    .all(|s| symbols.remove(s.as_str().unwrap_or_default()))
                    .then_some(())?;
            }
            _ => return None,
        }
        Some(())
    }

    fn add(&mut self, socket: SocketId, session: &str, p: &Value, out: &mut Out) -> Option<()> {
        let symbols = self.sockets.get_mut(&socket)?.quotes.get_mut(session)?;
        for symbol in p.as_array()?[1..].iter().filter_map(Value::as_str) {
            if !symbols.insert(symbol.to_owned()) {
                out.fault(socket, format!("{symbol} is in the session already"));
            }
            let completed = word("quote_completed", &json!([session, symbol]));
            let packets = match (self.unknown.contains(symbol), self.quoteless.contains(symbol)) {
                (true, _) => vec![quote(session, symbol, "error", &json!({}))],
                (false, true) => vec![completed],
                (false, false) => {
                    let first = json!({"description": TRAP, "lp": 1.5});
                    vec![quote(session, symbol, "ok", &first), completed]
                }
            };
            out.answer(
                socket,
                packets.iter().map(|packet| frame(packet, self.lie)).collect::<String>(),
            );
        }
        Some(())
    }

    /// Answers a history, or holds its answer back.
    fn chart(&mut self, socket: SocketId, history: &History, out: &mut Out) {
        let frames = match self.failing.get(&history.symbol) {
            Some((method, words)) => history.failed(method, words, self.lie),
            None => history.frames(self.parts, TRAP, self.lie),
        };
        let held = self.held.entry(socket).or_default();
        held.push(frames);
        if held.len() < self.reversed {
            return;
        }
        if self.reversed > 0 {
            held.reverse();
        }
        for frames in held.drain(..) {
            for _ in 0..=usize::from(self.twice) {
                frames.iter().for_each(|frame| out.answer(socket, frame.clone()));
            }
        }
    }
}

fn quote(session: &str, symbol: &str, state: &str, values: &Value) -> String {
    word("qsd", &json!([session, {"n": symbol, "s": state, "v": values}]))
}

impl Service for MockTradingView {
    fn open(&mut self, socket: SocketId, _: &Handshake, out: &mut Out) {
        self.sockets.insert(socket, Line::default());
        if self.greets {
            let hello = json!({"session_id": format!("<0.{socket}.0>_mock"), "timestamp": 1_713_786_384,
                "release": TRAP, "protocol": "json", "auth_scheme_vsn": 2});
            out.answer(socket, frame(&hello.to_string(), 0));
        }
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let Some(packets) = message.as_text().and_then(unframe) else {
            return self.give_up(socket, format!("no frame: {message:?}"), out);
        };
        for packet in packets {
            let Some(line) = self.sockets.get_mut(&socket).filter(|line| !line.is_closing) else {
                return;
            };
            if packet.starts_with("~h~") {
                if line.owed.remove(&packet).is_none() {
                    out.fault(socket, format!("a heartbeat that was not said: {packet}"));
                }
                continue;
            }
            let command: Value = serde_json::from_str(&packet).unwrap_or_default();
            let method = command["m"].as_str().unwrap_or_default().to_owned();
            if self.commands.len() < KEPT {
                self.commands.push((method.clone(), command["p"].clone()));
            }
            if self.obey(socket, &method, &command["p"], out).is_none() {
                self.give_up(socket, format!("no command: {packet}"), out);
            }
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
        self.held.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        let open = self.sockets.values().filter(|line| !line.is_closing);
        open.flat_map(|line| line.owed.values().copied()).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        let is_late = |line: &Line| !line.is_closing && line.owed.values().any(|due| *due <= now);
        let late = self.sockets.iter().filter(|(_, line)| is_late(line));
        let late: Vec<_> = late.map(|(socket, _)| *socket).collect();
        late.into_iter()
            .for_each(|socket| self.give_up(socket, "no answer to a heartbeat".into(), out));
    }
}
