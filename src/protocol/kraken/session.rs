//! What is said on one socket to Kraken.
//!
//! - Data is known by its channel and the symbols of its rows.
//! - A confirmation names what it confirms; a refusal names its symbol, and by its number its channel.
//! - The token is said with each call where the host wants one, and is nowhere kept.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::want::{Host, Want, write_key};
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::calls::Calls;
use crate::protocol::json::{Raw, pick, quote};
use crate::protocol::pulse::{Beat, Pulse};
use crate::protocol::roster::{Feed, Look, Refusal, Roster};
use crate::protocol::{Cx, Mark, Rotation, Session, Verdict};

/// The guide to reconnecting: a socket without a message for 5 s may be dead.
const SILENCE: Duration = Duration::from_secs(5);
const PONG: Duration = Duration::from_secs(5);
/// How long a call to leave waits that came too early.
const AGAIN: Duration = Duration::from_secs(1);
/// Names of one call, and about how many bytes of them.
const MOST_NAMES: usize = 100;
const MOST_BYTES: usize = 32 << 10;

/// Channels whose snapshot holds all that was said before.
const STATES: &[&str] = &["balances", "book", "instrument", "level3", "ohlc", "ticker"];
/// Channels whose messages are numbered.
const NUMBERED: &[&str] = &["balances", "executions"];
/// What errors begin with that say that it may go well another time.
const PASSING: &[&str] = &[
    "EAPI:Rate limit",
    "EGeneral:Temporary lockout",
    "EGeneral:Too many requests",
    "EService:",
    "Exceeded msg rate",
];
/// What errors begin with that say that the token is none.
const TOKEN: &[&str] = &["EAPI:Invalid token", "ESession:Invalid session"];

pub(super) struct Channels {
    calls: Calls,
    host: Host,
    /// What the data of a message is known by.
    key: String,
    pulse: Pulse,
    /// What is to be left once more, and when.
    repeat: Option<(Instant, Vec<StreamName>)>,
    roster: Roster<Rows>,
}

/// What one name's messages tell.
struct Rows {
    is_numbered: bool,
    is_state: bool,
    sequence: Option<u64>,
}

/// What of a message is looked at.
#[derive(Default)]
struct Fields<'a> {
    channel: Option<Raw<'a>>,
    data: Option<Raw<'a>>,
    error: Option<Raw<'a>>,
    method: Option<Raw<'a>>,
    req_id: Option<Raw<'a>>,
    result: Option<Raw<'a>>,
    success: Option<Raw<'a>>,
    symbol: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut read = Self::default();
        for field in Raw::new(text).fields().ok()? {
            let (key, value) = field.ok()?;
            let place = match &*key {
                "channel" => &mut read.channel,
                "data" => &mut read.data,
                "error" | "Error" => &mut read.error,
                "method" => &mut read.method,
                "req_id" => &mut read.req_id,
                "result" => &mut read.result,
                "success" => &mut read.success,
                "symbol" => &mut read.symbol,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        Some(read)
    }
}

impl Rows {
    fn of(channel: &str) -> Self {
        let (is_numbered, is_state) = (NUMBERED.contains(&channel), STATES.contains(&channel));
        Self { is_numbered, is_state, sequence: None }
    }
}

impl Feed for Rows {
    fn look(&mut self, message: &Message) -> Look {
        let text = message.as_text().unwrap_or_default();
        let [kind] = match self.is_state {
            true => pick(text, ["type"]).unwrap_or_default(),
            false => [None],
        };
        let is_snapshot = kind.and_then(Raw::string).is_some_and(|kind| kind == "snapshot");
        let [now] = match self.is_numbered {
            true => pick(text, ["sequence"]).unwrap_or_default().map(|now| now?.u64()),
            false => [None],
        };
        let before = self.sequence;
        self.sequence = now.or(before);
        if is_snapshot {
            return Look { gap: None, mark: Mark::default().snapshot() };
        }
        let missed = before.zip(now).map(|(before, now)| now.checked_sub(before.saturating_add(1)));
        Look { gap: missed.filter(|missed| *missed != Some(0)), mark: Mark::default() }
    }
}

impl Channels {
    pub(super) fn new(host: Host) -> Self {
        Self {
            calls: Calls::default(),
            host,
            key: String::new(),
            pulse: Pulse::on_silence(SILENCE, PONG),
            repeat: None,
            roster: Roster::default(),
        }
    }

    /// Asks for names, or leaves them: in one call for each channel, unless it gets too long.
    fn call(&mut self, joins: bool, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut by_channel: BTreeMap<&str, Vec<Want<'_>>> = BTreeMap::new();
        for want in names.iter().filter_map(|name| Want::of_name(name.as_str()).ok()) {
            by_channel.entry(want.channel()).or_default().push(want);
        }
        for wants in by_channel.into_values() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            for want in wants {
                bytes += want.symbol().unwrap_or_default().len();
                some.push(want);
                if some.len() >= MOST_NAMES || bytes >= MOST_BYTES {
                    self.say(joins, &std::mem::take(&mut some), cx);
                    bytes = 0;
                }
            }
            self.say(joins, &some, cx);
        }
        if self.calls.are_too_many() {
            cx.failed(Verdict::Retry, "the server does not answer its calls");
        }
    }

    /// Calls for names of one channel, which have the same options.
    fn say(&mut self, joins: bool, wants: &[Want<'_>], cx: &mut Cx<'_>) {
        let Some(first) = wants.first() else { return };
        let symbols: Vec<_> = wants.iter().filter_map(|want| want.symbol().map(quote)).collect();
        let symbols = match symbols.is_empty() {
            true => String::new(),
            false => format!(r#","symbol":[{}]"#, symbols.join(",")),
        };
        let token = cx.token().filter(|_| self.host.wants_token());
        let token = token.map(|token| format!(r#","token":{}"#, quote(token.expose())));
        let number = self.calls.add(joins, wants.iter().map(|want| want.key().into()).collect());
        cx.push(format!(
            r#"{{"method":"{}","params":{{"channel":{}{symbols}{}{}}},"req_id":{number}}}"#,
            if joins { "subscribe" } else { "unsubscribe" },
            quote(first.channel()),
            first.options(),
            token.unwrap_or_default(),
        ));
    }

    /// `key` is answered as it was asked.
    fn confirmed(&mut self, key: &str, joins: bool, cx: &mut Cx<'_>) {
        self.calls.settle(key, joins);
        if joins {
            self.roster.confirm(key, cx);
        } else if let Some(name) = self.roster.left(key) {
            self.join(&[name], cx);
        }
    }

    /// The answer to a call, for one name or for all of them. Whether it is one.
    fn answer(&mut self, joins: bool, fields: &Fields<'_>, cx: &mut Cx<'_>) -> bool {
        if fields.success.and_then(Raw::bool) != Some(true) {
            return self.refused(joins, fields, cx);
        }
        let Some([channel, symbol]) =
            fields.result.and_then(|result| pick(result.as_str(), ["channel", "symbol"]).ok())
        else {
            return false;
        };
        let Some(channel) = channel.and_then(Raw::string) else { return false };
        let mut key = std::mem::take(&mut self.key);
        write_key(&mut key, &channel, symbol.and_then(Raw::string).as_deref());
        self.confirmed(&key, joins, cx);
        self.key = key;
        true
    }

    /// A call, or one name of it, is refused. Whether it is known which.
    fn refused(&mut self, joins: bool, fields: &Fields<'_>, cx: &mut Cx<'_>) -> bool {
        let words = fields.error.and_then(Raw::string).unwrap_or_default();
        let begins = |with: &&str| words.starts_with(*with);
        if TOKEN.iter().any(begins) && self.host.wants_token() {
            cx.failed(Verdict::NewToken, "the server refuses the token");
            return true;
        }
        let Some(number) = fields.req_id.and_then(Raw::u64) else { return false };
        let Some(call) = self.calls.get(number).filter(|call| call.joins == joins) else {
            return false;
        };
        let symbol = fields.symbol.and_then(Raw::string);
        let of_symbol = symbol.as_deref().and_then(|symbol| {
            let is_of = |key: &str| key.split_once(':').is_some_and(|(_, of)| of == symbol);
            call.keys.iter().find(|key| is_of(key)).cloned()
        });
        let keys = match of_symbol {
            Some(key) => vec![key],
            None => self.calls.take(number).map(|call| call.keys).unwrap_or_default(),
        };
        if !joins {
            // It is not there: that is what was wanted.
            keys.iter().for_each(|key| self.confirmed(key, false, cx));
        } else if let [key] = &*keys {
            self.calls.settle(key, true);
            let refusal = match PASSING.iter().any(begins) {
                true => Refusal::Passing,
                false => Refusal::Final(&words),
            };
            self.roster.refuse(key, refusal, cx);
        } else {
            // It does not say whom it means.
            let (some, rest) = keys.split_at(keys.len() / 2);
            self.ask_again(some, cx);
            self.ask_again(rest, cx);
        }
        true
    }

    /// Calls once more for those that still wait.
    fn ask_again(&mut self, keys: &[Box<str>], cx: &mut Cx<'_>) {
        let names: Vec<_> = keys.iter().filter_map(|key| self.roster.asked(key)).collect();
        self.call(true, &names, cx);
    }

    /// More was said than the venue takes, and it does not tell what it has left undone: what waits
    /// longest, as it answers in order.
    fn too_much(&mut self, cx: &mut Cx<'_>) {
        let Some(call) = self.calls.take_oldest() else { return };
        for key in call.keys {
            if call.joins {
                self.roster.refuse(&key, Refusal::Passing, cx);
            } else if let Some(name) = self.roster.leaving(&key) {
                let due = cx.now() + AGAIN;
                self.repeat.get_or_insert_with(|| (due, Vec::new())).1.push(name);
            }
        }
    }

    /// Whether anybody knows the data.
    fn data(&mut self, channel: &str, data: Raw<'_>, message: &Message, cx: &mut Cx<'_>) -> bool {
        write_key(&mut self.key, channel, None);
        if self.roster.data(&self.key, message, cx) {
            return true;
        }
        let Ok(rows) = data.elements() else { return false };
        // Rows of a symbol mostly come one after another, and of one symbol.
        let (mut told, mut last) = (BTreeSet::new(), None::<Cow<'_, str>>);
        for row in rows {
            let symbol = row.ok().and_then(|row| row.field("symbol")?.string());
            let Some(symbol) = symbol else { continue };
            if last.as_ref() == Some(&symbol) || told.contains(&symbol) {
                continue;
            }
            write_key(&mut self.key, channel, Some(&symbol));
            if self.roster.data(&self.key, message, cx) {
                told.extend(last.replace(symbol));
            }
        }
        last.is_some()
    }
}

impl Session for Channels {
    fn open(&mut self, cx: &mut Cx<'_>) {
        if self.host.wants_token() && cx.token().is_none() {
            return cx.failed(Verdict::NewToken, "its channels want a token, and there is none");
        }
        self.pulse.start(cx.now());
        cx.ready();
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut new = Vec::new();
        for name in names {
            let Ok(want) = Want::of_name(name.as_str()) else { continue };
            if self.roster.join(name, &want.key(), Rows::of(want.channel()), cx) {
                new.push(name.clone());
            }
        }
        self.call(true, &new, cx);
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut leaving = Vec::new();
        for name in names {
            let Ok(want) = Want::of_name(name.as_str()) else { continue };
            let key = want.key();
            if self.roster.leave(name, &key, cx) {
                self.calls.settle(&key, true);
                leaving.push(name.clone());
            }
        }
        self.call(false, &leaving, cx);
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        self.pulse.heard(cx.now());
        let text = message.as_text().unwrap_or_default();
        let Some(fields) = Fields::read(text) else { return cx.unroutable(message) };
        let channel = fields.channel.and_then(Raw::string);
        let method = fields.method.and_then(Raw::string);
        let is_known = match (method.as_deref(), channel.as_deref(), fields.data) {
            (Some("subscribe"), ..) => self.answer(true, &fields, cx),
            (Some("unsubscribe"), ..) => self.answer(false, &fields, cx),
            (Some("pong"), ..) => {
                self.pulse.answered();
                cx.alive();
                true
            }
            (None, Some("heartbeat" | "status"), _) => {
                cx.alive();
                true
            }
            (None, Some(channel), Some(data)) => self.data(channel, data, message, cx),
            _ => {
                let words = fields.error.and_then(Raw::string);
                if words.is_some_and(|words| words.starts_with("Exceeded msg rate")) {
                    self.too_much(cx);
                }
                false
            }
        };
        if !is_known {
            cx.unroutable(message);
        }
    }

    /// There is no form for it: orders are not supported.
    fn send(&mut self, _: &StreamName, _: Message, _: &mut Cx<'_>) {}

    /// What is subscribed to lives on; calls from now on have the fresh token.
    fn rotate(&mut self, _: &mut Cx<'_>) -> Rotation {
        Rotation::InPlace
    }

    fn deadline(&self) -> Option<Instant> {
        let repeat = self.repeat.as_ref().map(|(due, _)| *due);
        self.pulse.deadline().into_iter().chain(repeat).min()
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        match self.pulse.tick(cx.now()) {
            Beat::Ask => {
                let number = self.calls.number();
                cx.push(format!(r#"{{"method":"ping","req_id":{number}}}"#));
            }
            Beat::Dead => {
                return cx.failed(Verdict::Retry, "the server did not answer the ping");
            }
            Beat::Rest => {}
        }
        let is_due = |(due, _): &mut (Instant, Vec<StreamName>)| *due <= cx.now();
        if let Some((_, mut names)) = self.repeat.take_if(is_due) {
            names.retain(|name| {
                let want = Want::of_name(name.as_str());
                want.is_ok_and(|want| self.roster.leaving(&want.key()).is_some())
            });
            self.call(false, &names, cx);
        }
    }
}
