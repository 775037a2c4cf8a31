//! OKX: public channels, confirmed one by one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;

/// When a socket is dropped on which nothing was said.
const IDLE: Duration = Duration::from_secs(30);
/// Calls that a socket may make in an [`HOUR`].
const CALLS: usize = 480;
const HOUR: Duration = Duration::from_secs(3600);
/// The longest call, in bytes.
const LONGEST: usize = 64 << 10;

/// A server of [OKX](https://www.okx.com/docs-v5/en/)'s public channels. Run it by a
/// [`Mock`](super::Mock).
///
/// Every channel exists, unless it is [unknown](Self::unknown); a name is told to the mock as the `arg`
/// that it stands for. A book (`books`) begins with a snapshot, and its updates are a chain. Sockets on
/// which neither side said anything for 30 s are dropped. Clients are audited: for messages that are no calls or
/// too long, more than 480 calls in an hour, channels on the wrong path, and leaving what they do not
/// have.
#[derive(Debug, Default)]
pub struct MockOkx {
    /// The last change of each book.
    books: HashMap<String, i64>,
    deaf: bool,
    early: bool,
    nameless: bool,
    refusals: Vec<String>,
    sockets: BTreeMap<SocketId, Line>,
    unknown: HashSet<String>,
}

/// A socket.
#[derive(Debug)]
struct Line {
    /// When something was said on it, by either side.
    alive: Instant,
    args: BTreeMap<String, Value>,
    calls: Vec<Instant>,
    is_business: bool,
}

impl MockOkx {
    /// Says `data` to all who have `arg`, and tells how many those are.
    pub fn publish(&mut self, arg: &Value, data: &Value, out: &mut Out) -> usize {
        self.say(arg, &json!({"arg": arg, "data": [data]}), out)
    }

    /// Says the next update of a book.
    pub fn update(&mut self, arg: &Value, out: &mut Out) -> i64 {
        let (previous, next) = self.advance(arg);
        let update = book(arg, "update", previous, next);
        self.say(arg, &update, out);
        next
    }

    /// Loses the next update of a book: nobody is told of it.
    pub fn lose_update(&mut self, arg: &Value) {
        self.advance(arg);
    }

    /// Refuses `arg`: it does not exist.
    pub fn unknown(&mut self, arg: &Value) {
        self.unknown.insert(arg.to_string());
    }

    /// Refuses the next call with an error of `code` that names no `arg`; called again, the one after
    /// it too.
    pub fn refuse_next(&mut self, code: &str) {
        self.refusals.push(code.to_owned());
    }

    /// Whether refusals name no `arg`, and refuse their call as a whole, from now on.
    pub fn nameless(&mut self, nameless: bool) {
        self.nameless = nameless;
    }

    /// Whether snapshots come before the confirmation of their channel, from now on.
    pub fn early(&mut self, early: bool) {
        self.early = early;
    }

    /// Whether pings stay without an answer from now on.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// Tells all clients that their sockets are going to be closed.
    pub fn upgrade(&mut self, out: &mut Out) {
        let notice = json!({
            "event": "notice", "code": "64008", "connId": "a4d3ae55",
            "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
        });
        self.sockets.keys().for_each(|socket| out.send(*socket, notice.to_string()));
    }

    /// What is subscribed to now, once for each socket.
    #[must_use]
    pub fn args(&self) -> Vec<Value> {
        self.sockets.values().flat_map(|line| line.args.values().cloned()).collect()
    }

    /// How many calls there were on the sockets that are open.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.sockets.values().map(|line| line.calls.len()).sum()
    }

    fn say(&mut self, arg: &Value, message: &Value, out: &mut Out) -> usize {
        let (key, now) = (arg.to_string(), out.now());
        let lines = self.sockets.iter_mut().filter(|(_, line)| line.args.contains_key(&key));
        let told = lines.map(|(socket, line)| {
            line.alive = now;
            out.send(*socket, message.to_string());
        });
        told.count()
    }

    /// The changes before and after the next one of a book.
    fn advance(&mut self, arg: &Value) -> (i64, i64) {
        let last = self.books.entry(arg.to_string()).or_insert(1000);
        let previous = *last;
        *last += 3;
        (previous, *last)
    }

    fn call(&mut self, socket: SocketId, call: &Value, out: &mut Out) -> Option<()> {
        let (id, args) = (&call["id"], call["args"].as_array()?);
        let now = out.now();
        let line = self.sockets.get_mut(&socket)?;
        line.calls.push(now);
        if line.calls.iter().filter(|at| **at + HOUR > now).count() > CALLS {
            out.fault(socket, "more than 480 calls in an hour");
        }
        let joins = match call["op"].as_str()? {
            "subscribe" => true,
            "unsubscribe" => false,
            _ => return None,
        };
        if !self.refusals.is_empty() {
            let code = self.refusals.remove(0);
            out.answer(socket, error(id, &code, None));
            return Some(());
        }
        if self.nameless && joins && args.iter().any(|arg| self.unknown.contains(&arg.to_string()))
        {
            out.answer(socket, error(id, "60012", None));
            return Some(());
        }
        for arg in args {
            match joins {
                true => self.subscribe(socket, id, arg, out),
                false => self.unsubscribe(socket, id, arg, out),
            }
        }
        Some(())
    }

    fn subscribe(&mut self, socket: SocketId, id: &Value, arg: &Value, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        let (key, channel) = (arg.to_string(), arg["channel"].as_str().unwrap_or_default());
        let is_business = channel.starts_with("candle") || channel == "trades-all";
        if is_business != line.is_business {
            out.fault(socket, format!("{channel} on the wrong path"));
        }
        if self.unknown.contains(&key) || is_business != line.is_business {
            return out.answer(socket, error(id, "60018", Some(arg)));
        }
        let is_new = line.args.insert(key.clone(), arg.clone()).is_none();
        let snapshot = (is_new && channel == "books").then(|| {
            let last = *self.books.entry(key).or_insert(1000);
            book(arg, "snapshot", -1, last).to_string()
        });
        let (early, later) = if self.early { (snapshot, None) } else { (None, snapshot) };
        early.into_iter().for_each(|snapshot| out.send(socket, snapshot));
        out.answer(socket, event("subscribe", id, arg));
        later.into_iter().for_each(|snapshot| out.answer(socket, snapshot));
    }

    fn unsubscribe(&mut self, socket: SocketId, id: &Value, arg: &Value, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        if line.args.remove(&arg.to_string()).is_none() && !self.unknown.contains(&arg.to_string())
        {
            out.fault(socket, format!("{arg} is left, and is not there"));
        }
        out.answer(socket, event("unsubscribe", id, arg));
    }
}

fn event(event: &str, id: &Value, arg: &Value) -> String {
    json!({"id": id, "event": event, "arg": arg, "connId": "a4d3ae55"}).to_string()
}

fn error(id: &Value, code: &str, arg: Option<&Value>) -> String {
    let msg = "Wrong URL or channel doesn't exist";
    let mut error = json!({"id": id, "event": "error", "code": code, "msg": msg, "connId": "a"});
    if let Some(arg) = arg {
        error["arg"] = arg.clone();
    }
    error.to_string()
}

fn book(arg: &Value, action: &str, previous: i64, id: i64) -> Value {
    let book = json!({"asks": [["8476.98", "415", "0", "13"]], "bids": [], "prevSeqId": previous, "seqId": id});
    json!({"arg": arg, "action": action, "data": [book]})
}

impl Service for MockOkx {
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let is_business = dial.path.ends_with("/business");
        let (args, calls, alive) = (BTreeMap::new(), Vec::new(), out.now());
        self.sockets.insert(socket, Line { alive, args, calls, is_business });
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        line.alive = out.now();
        let text = message.as_text().unwrap_or_default();
        if text == "ping" {
            if !self.deaf {
                out.send(socket, "pong");
            }
            return;
        }
        if text.len() > LONGEST {
            out.fault(socket, format!("a call of {} bytes", text.len()));
        }
        let call = serde_json::from_str(text).unwrap_or_default();
        if self.call(socket, &call, out).is_none() {
            out.fault(socket, format!("no call: {message:?}"));
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.sockets.values().map(|line| line.alive + IDLE).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        self.sockets.retain(|socket, line| {
            let is_idle = line.alive + IDLE <= now;
            if is_idle {
                out.fault(*socket, "nothing was said for 30 s");
                out.drop_socket(*socket);
            }
            !is_idle
        });
    }
}
