//! Bybit: streams of API v5, confirmed call by call, or topic by topic.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;

/// When a socket is dropped on which the client said nothing.
const IDLE: Duration = Duration::from_secs(600);
/// How often a client should say `ping`, with room for the way.
const PING: Duration = Duration::from_secs(25);
/// What a socket may carry, in characters of arguments.
const MOST: usize = 21_000;
/// Topics of one call on `spot`.
const SPOT: usize = 10;
const KEY: &str = "key";

/// A server of [Bybit](https://bybit-exchange.github.io/docs/v5/ws/connect)'s streams, under
/// `/public/<category>` and `/private`. Run it by a [`Mock`](super::Mock).
///
/// Every topic exists, unless it is [unknown](Self::unknown): a call for that fails as a whole, or for it
/// alone on `option` and `spread`, whose answers name topics and no call. A book (`orderbook.`) begins with a
/// snapshot, and its changes are numbered. A login is taken whose first argument is `key`, or what is
/// [set](Self::key). Sockets on which nothing was said for ten minutes are dropped. Clients are audited:
/// for messages that are no calls, calls and sockets with too many arguments, paths that there are not,
/// topics that are asked for twice or left without being there, private topics without a login, and
/// pings that do not come.
#[derive(Debug)]
pub struct MockBybit {
    /// The last change of each book.
    books: HashMap<String, u64>,
    deaf: bool,
    early: bool,
    key: String,
    nameless: bool,
    refusals: Vec<String>,
    sockets: BTreeMap<SocketId, Line>,
    unknown: HashSet<String>,
}

/// A socket.
#[derive(Debug)]
struct Line {
    category: String,
    heard: Instant,
    is_known: bool,
    pinged: Instant,
    topics: BTreeSet<String>,
}

impl Default for MockBybit {
    fn default() -> Self {
        Self {
            books: HashMap::new(),
            deaf: false,
            early: false,
            key: KEY.to_owned(),
            nameless: false,
            refusals: Vec::new(),
            sockets: BTreeMap::new(),
            unknown: HashSet::new(),
        }
    }
}

impl MockBybit {
    /// Says `data` to all who have `topic`, and tells how many those are.
    pub fn publish(&mut self, topic: &str, data: &Value, out: &mut Out) -> usize {
        let message = json!({"topic": topic, "type": "snapshot", "ts": 1, "data": data});
        self.say(topic, &message, out)
    }

    /// Says the next change of a book.
    pub fn update(&mut self, topic: &str, out: &mut Out) -> u64 {
        let next = self.advance(topic);
        self.say(topic, &book(topic, "delta", next), out);
        next
    }

    /// Loses the next change of a book: nobody is told of it.
    pub fn lose_update(&mut self, topic: &str) {
        self.advance(topic);
    }

    /// Starts the service of all books anew: each begins with a snapshot, and with 1.
    pub fn restart(&mut self, out: &mut Out) {
        let topics: Vec<_> = self.books.keys().cloned().collect();
        for topic in topics {
            self.books.insert(topic.clone(), 1);
            self.say(&topic, &book(&topic, "snapshot", 1), out);
        }
    }

    /// Refuses `topic`: there is no such.
    pub fn unknown(&mut self, topic: &str) {
        self.unknown.insert(topic.to_owned());
    }

    /// Whether refusals name neither a topic nor their call, from now on.
    pub fn nameless(&mut self, nameless: bool) {
        self.nameless = nameless;
    }

    /// Refuses the next call with `words`; called again, the one after it too.
    pub fn refuse_next(&mut self, words: &str) {
        self.refusals.push(words.to_owned());
    }

    /// Whether snapshots come before the confirmation of their topic, from now on.
    pub fn early(&mut self, early: bool) {
        self.early = early;
    }

    /// Whether pings stay without an answer from now on.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// From now on, the key that a login needs.
    pub fn key(&mut self, key: &str) {
        key.clone_into(&mut self.key);
    }

    /// What is subscribed to now, once for each socket.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.sockets.values().flat_map(|line| line.topics.iter().cloned()).collect()
    }

    fn say(&self, topic: &str, message: &Value, out: &mut Out) -> usize {
        let lines = self.sockets.iter().filter(|(_, line)| line.topics.contains(topic));
        lines.map(|(socket, _)| out.send(*socket, message.to_string())).count()
    }

    fn advance(&mut self, topic: &str) -> u64 {
        let last = self.books.entry(topic.to_owned()).or_insert(1000);
        *last += 1;
        *last
    }

    fn call(&mut self, socket: SocketId, call: &Value, out: &mut Out) -> Option<()> {
        let (id, op) = (&call["req_id"], call["op"].as_str()?);
        let line = self.sockets.get_mut(&socket)?;
        match op {
            "ping" => {
                line.pinged = out.now();
                if !self.deaf {
                    out.send(socket, pong(&line.category, id));
                }
            }
            "auth" => {
                line.is_known = call["args"][0].as_str() == Some(&*self.key);
                let answer =
                    json!({"success": line.is_known, "ret_msg": "", "op": "auth", "conn_id": "c"});
                out.answer(socket, answer.to_string());
            }
            "subscribe" | "unsubscribe" => {
                let args = call["args"].as_array()?;
                let topics: Option<Vec<_>> = args.iter().map(Value::as_str).collect();
                self.change(socket, op, id, &topics?, out);
            }
            _ => return None,
        }
        Some(())
    }

    /// Audits a call to join or leave `topics`, and does what it says.
    fn change(&mut self, socket: SocketId, op: &str, id: &Value, topics: &[&str], out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        if line.category == "spot" && topics.len() > SPOT {
            out.fault(socket, format!("{} arguments in a call", topics.len()));
        }
        if line.category == "private" && !line.is_known {
            out.fault(socket, "a private topic without a login");
        }
        if !self.refusals.is_empty() {
            let words = self.refusals.remove(0);
            return out.answer(socket, error(op, id, &words));
        }
        let by_topic = matches!(&*line.category, "option" | "spread");
        let is_bad = |topic: &&str| op == "subscribe" && self.unknown.contains(*topic);
        let (bad, good): (Vec<&str>, Vec<&str>) = topics.iter().copied().partition(is_bad);
        if let (Some(topic), false) = (bad.first(), by_topic) {
            let words = format!("error:handler not found,topic:{topic}");
            return out.answer(
                socket,
                match self.nameless {
                    true => error(op, &Value::Null, "Invalid topic"),
                    false => error(op, id, &words),
                },
            );
        }
        let mut snapshots = Vec::new();
        for topic in &good {
            let did = match op {
                "subscribe" => line.topics.insert((*topic).to_owned()),
                _ => line.topics.remove(*topic),
            };
            if !did && !self.unknown.contains(*topic) {
                out.fault(socket, format!("{op} of {topic} once more"));
            }
            if op == "subscribe" && topic.starts_with("orderbook.") {
                let last = *self.books.entry((*topic).to_owned()).or_insert(1000);
                snapshots.push(book(topic, "snapshot", last).to_string());
            }
        }
        let characters: usize = line.topics.iter().map(|topic| topic.len() + 3).sum();
        if characters > MOST {
            out.fault(socket, format!("{characters} characters of arguments on a socket"));
        }
        let (early, later) = if self.early { (snapshots, vec![]) } else { (vec![], snapshots) };
        early.into_iter().for_each(|snapshot| out.send(socket, snapshot));
        out.answer(
            socket,
            match by_topic {
                true => json!({"success": true, "conn_id": "c", "type": "COMMAND_RESP",
                "data": {"failTopics": bad, "successTopics": good}})
                .to_string(),
                false => {
                    json!({"success": true, "ret_msg": "", "conn_id": "c", "req_id": id, "op": op})
                        .to_string()
                }
            },
        );
        later.into_iter().for_each(|snapshot| out.answer(socket, snapshot));
    }
}

fn pong(category: &str, id: &Value) -> String {
    let pong = match category {
        "option" | "private" => json!({"op": "pong", "args": ["1672916271846"], "conn_id": "c"}),
        _ => {
            json!({"success": true, "ret_msg": "pong", "conn_id": "c", "req_id": id, "op": "ping"})
        }
    };
    pong.to_string()
}

fn error(op: &str, id: &Value, words: &str) -> String {
    let mut error = json!({"success": false, "ret_msg": words, "conn_id": "c", "op": op});
    if !id.is_null() {
        error["req_id"] = id.clone();
    }
    error.to_string()
}

fn book(topic: &str, kind: &str, u: u64) -> Value {
    let data = json!({"s": "X", "b": [["27450.00", "0.400"]], "a": [], "u": u, "seq": u * 7});
    json!({"topic": topic, "type": kind, "ts": 1, "data": data})
}

impl Service for MockBybit {
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let category = dial.path.rsplit('/').next().unwrap_or_default().to_owned();
        let paths = ["spot", "linear", "inverse", "option", "spread", "private"];
        if !paths.contains(&&*category) {
            out.fault(socket, format!("there is no path {}", dial.path));
        }
        let now = out.now();
        let line =
            Line { category, heard: now, is_known: false, pinged: now, topics: BTreeSet::new() };
        self.sockets.insert(socket, line);
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        line.heard = out.now();
        let call = serde_json::from_str(message.as_text().unwrap_or_default());
        if self.call(socket, &call.unwrap_or_default(), out).is_none() {
            out.fault(socket, format!("no call: {message:?}"));
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        let due = |line: &Line| (line.heard + IDLE).min(line.pinged + PING);
        self.sockets.values().map(due).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        for (socket, line) in &mut self.sockets {
            if line.pinged + PING <= now {
                out.fault(*socket, "no ping came");
                line.pinged = now;
            }
        }
        self.sockets.retain(|socket, line| {
            let is_idle = line.heard + IDLE <= now;
            if is_idle {
                out.drop_socket(*socket);
            }
            !is_idle
        });
    }
}
