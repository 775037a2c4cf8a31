//! One socket: its names, and what is held against its client.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::rules::Rules;
use crate::test_util::mock::{Budget, Handshake, Out, SocketId};

const MAX_NAMES: usize = 1024;
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct Line {
    budget: Budget,
    pub(super) combined: bool,
    /// When it was closed, if it was.
    closing: bool,
    names: BTreeSet<String>,
    next_ping: Instant,
    opened: Instant,
    /// Payloads of pings without a pong, and when one is due.
    pinged: VecDeque<(Bytes, Instant)>,
    /// Of futures: `public` or `market`.
    route: Option<String>,
    rules: Rules,
}

/// The names that a URL asks for.
pub(super) fn in_url(dial: &Handshake) -> Vec<String> {
    let listed = match dial.path.split_once("/ws/") {
        Some((_, names)) => Some(names.to_owned()),
        None => dial.parameter("streams"),
    };
    listed.iter().flat_map(|names| names.split('/')).map(Into::into).collect()
}

impl Line {
    pub(super) fn new(dial: &Handshake, rules: Rules, now: Instant) -> Self {
        let first = dial.path.split('/').find(|part| !part.is_empty()).unwrap_or_default();
        Self {
            budget: Budget::new(rules.frames, Duration::from_secs(1)),
            closing: false,
            combined: dial.path.ends_with("/stream"),
            names: BTreeSet::new(),
            next_ping: now + rules.ping_every,
            opened: now,
            pinged: VecDeque::new(),
            route: rules.is_futures.then(|| first.to_owned()),
            rules,
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether what is published under `name` comes here.
    pub(super) fn serves(&self, name: &str) -> bool {
        self.names.contains(name) && self.route.as_deref().is_none_or(|route| route == place(name))
    }

    /// A payload in the form of this socket.
    pub(super) fn data(&self, name: &str, payload: &str) -> String {
        match self.combined {
            true => format!(r#"{{"stream":"{name}","data":{payload}}}"#),
            false => payload.to_owned(),
        }
    }

    pub(super) fn subscribe(&mut self, socket: SocketId, names: Vec<String>, out: &mut Out) {
        for name in names {
            if !self.names.insert(name.clone()) {
                out.fault(socket, format!("{name} is asked for twice"));
            }
        }
        if self.names.len() > MAX_NAMES {
            out.fault(socket, format!("{} names on a socket", self.names.len()));
        }
    }

    pub(super) fn unsubscribe(&mut self, socket: SocketId, names: &[String], out: &mut Out) {
        for name in names {
            if !self.names.remove(name) {
                out.fault(socket, format!("{name} is left and was not asked for"));
            }
        }
    }

    /// A frame came.
    pub(super) fn heard(&mut self, socket: SocketId, out: &mut Out) {
        if !self.budget.spend(out.now()) {
            out.fault(socket, format!("more than {} frames in a second", self.rules.frames));
            self.close(socket, 1008, "Too many requests", out);
        }
    }

    pub(super) fn pong(&mut self, socket: SocketId, payload: &Bytes, out: &mut Out) {
        match self.pinged.iter().position(|(pinged, _)| pinged == payload) {
            Some(place) => drop(self.pinged.drain(..=place)),
            None if payload.is_empty() => {} // Nobody asked for it, and it counts for nothing.
            None => out.fault(socket, "a pong that answers no ping"),
        }
    }

    /// When it is to be looked at.
    pub(super) fn due(&self) -> Instant {
        let pong_due = self.pinged.front().map(|(_, due)| *due);
        let due = pong_due.into_iter().fold(self.next_ping, Instant::min);
        due.min(self.opened + MAX_AGE)
    }

    pub(super) fn tick(&mut self, socket: SocketId, out: &mut Out) {
        let now = out.now();
        if now >= self.next_ping {
            let payload = format!("{}", now.duration_since(self.opened).as_millis());
            self.pinged.push_back((payload.clone().into(), now + self.rules.pong_within));
            self.next_ping = now + self.rules.ping_every;
            out.ping(socket, payload);
        }
        if self.pinged.front().is_some_and(|(_, due)| *due <= now) {
            self.pinged.clear();
            out.fault(socket, "a ping was not answered in time");
            self.close(socket, 1008, "Pong timeout", out);
        }
        if now >= self.opened + MAX_AGE {
            self.opened = now; // Said once.
            self.close(socket, 1001, "24 hours", out);
        }
    }

    fn close(&mut self, socket: SocketId, code: u16, why: &str, out: &mut Out) {
        if !std::mem::replace(&mut self.closing, true) {
            out.close(socket, code, why);
        }
    }
}

/// Where futures have a stream.
fn place(name: &str) -> &'static str {
    let kind = name.split_once('@').map_or(name, |(_, kind)| kind).trim_start_matches('!');
    let of_books = ["bookTicker", "depth", "rpiDepth"];
    let is_public = kind == "trade" || of_books.iter().any(|kinds| kind.starts_with(kinds));
    if is_public { "public" } else { "market" }
}
