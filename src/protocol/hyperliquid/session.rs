//! What is said on one socket to Hyperliquid.
//!
//! - Data is known by its channel, and by the coin and the interval in it.
//! - An answer echoes what it answers; one that does not is that of the oldest call without an answer.

use std::time::Duration;

use tokio::time::Instant;

use super::want::{Want, kind_of, write_key_of_data, write_key_of_echo};
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::calls::Calls;
use crate::protocol::json::{Raw, pick};
use crate::protocol::pulse::{Beat, Pulse};
use crate::protocol::roster::{Feed, Look, Refusal, Roster};
use crate::protocol::{Cx, Mark, Session, Verdict};

/// "Timeouts and heartbeats": the venue closes a socket on which it has said nothing for 60 s.
const SILENCE: Duration = Duration::from_secs(45);
const PONG: Duration = Duration::from_secs(10);

/// Types each of whose messages is the whole state.
const STATES: &[&str] = &["activeAssetCtx", "allMids", "bbo", "l2Book"];
/// What errors say, in small letters, that may go well another time.
const PASSING: &[&str] = &["cannot track", "limit", "too many"];

pub(super) struct Feeds {
    calls: Calls,
    /// What the data of a message is known by.
    key: String,
    pulse: Pulse,
    roster: Roster<Kind>,
}

/// What one name's messages tell.
struct Kind {
    is_state: bool,
}

impl Feed for Kind {
    fn look(&mut self, message: &Message) -> Look {
        let says_so = || {
            let [data] = pick(message.as_text()?, ["data"]).ok()?;
            data?.field("isSnapshot")?.bool()
        };
        let is_snapshot = self.is_state || says_so() == Some(true);
        let mark = if is_snapshot { Mark::default().snapshot() } else { Mark::default() };
        Look { gap: None, mark }
    }
}

impl Default for Feeds {
    fn default() -> Self {
        Self {
            calls: Calls::default(),
            key: String::new(),
            pulse: Pulse::on_silence(SILENCE, PONG),
            roster: Roster::default(),
        }
    }
}

impl Feeds {
    /// Asks for one name, or leaves it.
    fn call(&mut self, joins: bool, want: &Want<'_>, cx: &mut Cx<'_>) {
        let method = if joins { "subscribe" } else { "unsubscribe" };
        self.calls.add(joins, vec![want.key().into()]);
        cx.push(format!(r#"{{"method":"{method}","subscription":{}}}"#, want.write()));
        if self.calls.are_too_many() {
            cx.failed(Verdict::Retry, "the server does not answer its calls");
        }
    }

    /// What is in `key` is answered as it was asked. A call to join that was left meanwhile goes on
    /// waiting for its own answer.
    fn confirmed(&mut self, joins: bool, cx: &mut Cx<'_>) {
        self.calls.settle(&self.key, joins);
        if joins {
            self.roster.confirm(&self.key, cx);
        } else if let Some(name) = self.roster.left(&self.key) {
            self.join(&[name], cx);
        }
    }

    /// The answer to a call. Whether it is one.
    fn answer(&mut self, data: Raw<'_>, cx: &mut Cx<'_>) -> bool {
        let Ok([Some(method), Some(echo)]) = pick(data.as_str(), ["method", "subscription"]) else {
            return false;
        };
        let joins = match method.string().as_deref() {
            Some("subscribe") => true,
            Some("unsubscribe") => false,
            _ => return false,
        };
        if write_key_of_echo(&mut self.key, echo).is_none() {
            return false;
        }
        self.confirmed(joins, cx);
        true
    }

    /// An error, with or without an echo of what it is about. Whether it is known what that is.
    fn refused(&mut self, words: &str, cx: &mut Cx<'_>) -> bool {
        let echo = words.find('{').map(|at| Raw::new(&words[at..]));
        // Of the subscription, or of the call that has it.
        let echo = echo.map(|echo| echo.field("subscription").unwrap_or(echo));
        let has_echo = echo.is_some_and(|echo| write_key_of_echo(&mut self.key, echo).is_some());
        if words.starts_with("Already subscribed") && has_echo {
            self.confirmed(true, cx);
            return true;
        }
        if words.starts_with("Already unsubscribed") && has_echo {
            self.confirmed(false, cx);
            return true;
        }
        let joins = match has_echo {
            true => self.calls.answered(&self.key),
            false => self.calls.take_oldest().and_then(|call| {
                self.key.clear();
                self.key.push_str(call.keys.first()?);
                Some(call.joins)
            }),
        };
        let says = |what: &&str| words.to_ascii_lowercase().contains(*what);
        match joins {
            Some(true) if PASSING.iter().any(says) => {
                self.roster.refuse(&self.key, Refusal::Passing, cx);
            }
            Some(true) => self.roster.refuse(&self.key, Refusal::Final(words), cx),
            // It is not there: that is what was wanted.
            Some(false) => {
                if let Some(name) = self.roster.left(&self.key) {
                    self.join(&[name], cx);
                }
            }
            None => return false,
        }
        true
    }

    /// Whether anybody knows the data.
    fn data(&mut self, channel: &str, data: Raw<'_>, message: &Message, cx: &mut Cx<'_>) -> bool {
        write_key_of_data(&mut self.key, channel, data);
        if self.roster.data(&self.key, message, cx) {
            return true;
        }
        if self.roster.data(kind_of(channel), message, cx) {
            return true;
        }
        // Nothing has happened, to whomever.
        let is_empty = data.elements().is_ok_and(|mut rows| rows.next().is_none());
        if is_empty {
            cx.alive();
        }
        is_empty
    }
}

impl Session for Feeds {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.pulse.start(cx.now());
        cx.ready();
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        for name in names {
            let Ok(want) = Want::of_name(name.as_str()) else { continue };
            let kind = Kind { is_state: STATES.contains(&want.kind()) };
            if self.roster.join(name, &want.key(), kind, cx) {
                self.call(true, &want, cx);
            }
        }
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        for name in names {
            let Ok(want) = Want::of_name(name.as_str()) else { continue };
            if self.roster.leave(name, &want.key(), cx) {
                self.call(false, &want, cx);
            }
        }
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        self.pulse.heard(cx.now());
        let text = message.as_text().unwrap_or_default();
        let [channel, data] = pick(text, ["channel", "data"]).unwrap_or_default();
        let channel = channel.and_then(Raw::string);
        let is_known = match (channel.as_deref(), data) {
            (Some("pong"), _) => {
                self.pulse.answered();
                cx.alive();
                true
            }
            (Some("subscriptionResponse"), Some(data)) => self.answer(data, cx),
            (Some("error"), Some(data)) => {
                data.string().is_some_and(|words| self.refused(&words, cx))
            }
            (Some(channel), Some(data)) => self.data(channel, data, message, cx),
            _ => false,
        };
        if !is_known {
            cx.unroutable(message);
        }
    }

    /// There is no form for it: orders are not supported.
    fn send(&mut self, _: &StreamName, _: Message, _: &mut Cx<'_>) {}

    fn deadline(&self) -> Option<Instant> {
        self.pulse.deadline()
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        match self.pulse.tick(cx.now()) {
            Beat::Ask => cx.push(r#"{"method":"ping"}"#),
            Beat::Dead => cx.failed(Verdict::Retry, "the server did not answer the ping"),
            Beat::Rest => {}
        }
    }
}
