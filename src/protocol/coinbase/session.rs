//! What is said on one socket to Coinbase.
//!
//! - An answer lists all that the socket is subscribed to, and no call. Calls are answered in order, each
//!   once, so of each key only its oldest call can be meant: it is answered when the list shows its effect, or
//!   when as many answers came as calls were made until then.
//! - All messages of a socket are numbered in one row.
//! - The token is said with each call on the user's host, and is nowhere kept.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::want::{Channel, Rows, Want, write_key};
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::calls::Calls;
use crate::protocol::json::{Raw, quote};
use crate::protocol::roster::{Feed, Look, Refusal, Roster};
use crate::protocol::{Cx, Mark, Rotation, Session, Verdict};

/// How long heartbeats, of which one comes each second, may stay away.
const SILENCE: Duration = Duration::from_secs(10);
/// Products of one call.
const MOST_NAMES: usize = 100;

pub(super) struct Channels {
    /// How many calls are answered.
    answers: u64,
    /// By when something has to be heard, once heartbeats have come.
    beat: Option<Instant>,
    calls: Calls,
    is_private: bool,
    /// What the data of a message is known by.
    key: String,
    roster: Roster<Events>,
    /// The number of the last message.
    sequence: Option<u64>,
}

/// What one name's messages tell.
struct Events {
    is_state: bool,
}

/// What of a message is looked at.
#[derive(Default)]
struct Fields<'a> {
    channel: Option<Raw<'a>>,
    events: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    sequence: Option<Raw<'a>>,
    words: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut read = Self::default();
        for field in Raw::new(text).fields().ok()? {
            let (key, value) = field.ok()?;
            let place = match &*key {
                "channel" => &mut read.channel,
                "events" => &mut read.events,
                "type" => &mut read.kind,
                "sequence_num" => &mut read.sequence,
                "message" => &mut read.words,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        Some(read)
    }

    fn events(&self) -> impl Iterator<Item = Raw<'a>> + use<'a> {
        let events = self.events.and_then(|events| events.elements().ok());
        events.into_iter().flatten().map_while(Result::ok)
    }
}

impl Feed for Events {
    fn look(&mut self, message: &Message) -> Look {
        let mut look = Look::default();
        let fields = message.as_text().filter(|_| self.is_state).and_then(Fields::read);
        if let Some(fields) = fields {
            let is_snapshot = |event: Raw<'_>| {
                event.field("type").and_then(Raw::string).is_some_and(|kind| kind == "snapshot")
            };
            if fields.events().all(is_snapshot) {
                look.mark = Mark::default().snapshot();
            }
        }
        look
    }
}

impl Channels {
    pub(super) fn new(is_private: bool) -> Self {
        Self {
            answers: 0,
            beat: None,
            calls: Calls::default(),
            is_private,
            key: String::new(),
            roster: Roster::default(),
            sequence: None,
        }
    }

    /// Asks for names, or leaves them: in one call for each channel, unless it gets too long.
    fn call(&mut self, joins: bool, keys: &[Box<str>], cx: &mut Cx<'_>) {
        let mut by_channel: BTreeMap<&str, Vec<Want<'_>>> = BTreeMap::new();
        for want in keys.iter().filter_map(|key| Want::of_name(key).ok()) {
            by_channel.entry(want.channel.name).or_default().push(want);
        }
        for wants in by_channel.values().flat_map(|wants| wants.chunks(MOST_NAMES)) {
            self.say(joins, wants, cx);
        }
        if self.calls.are_too_many() {
            cx.failed(Verdict::Retry, "the server does not answer its calls");
        }
    }

    /// Calls for names of one channel.
    fn say(&mut self, joins: bool, wants: &[Want<'_>], cx: &mut Cx<'_>) {
        let Some(first) = wants.first() else { return };
        let products: Vec<_> = wants.iter().filter_map(|want| want.product.map(quote)).collect();
        let products = match products.is_empty() {
            true => String::new(),
            false => format!(r#""product_ids":[{}],"#, products.join(",")),
        };
        let token = cx.token().filter(|_| self.is_private);
        let token = token.map(|token| format!(r#","jwt":{}"#, quote(token.expose())));
        self.calls.add(joins, wants.iter().map(|want| want.key().into()).collect());
        let kind = if joins { "subscribe" } else { "unsubscribe" };
        let (channel, token) = (quote(first.channel.name), token.unwrap_or_default());
        cx.push(format!(r#"{{"type":"{kind}",{products}"channel":{channel}{token}}}"#));
    }

    /// The keys in a list of all that the socket is subscribed to, as far as they are known.
    fn read_list(&mut self, fields: &Fields<'_>) -> Option<HashSet<String>> {
        let lists = fields.events().filter_map(|event| event.field("subscriptions")?.fields().ok());
        let lists: Vec<_> = lists.collect();
        let mut listed = HashSet::new();
        lists.first()?;
        for (channel, products) in lists.into_iter().flatten().map_while(Result::ok) {
            let Some(channel) = Channel::named(&channel) else { continue };
            if channel.rows == Rows::Whole {
                listed.insert(channel.name.to_owned());
                continue;
            }
            let products = products.elements().ok().into_iter().flatten().map_while(Result::ok);
            for product in products.filter_map(Raw::string) {
                write_key(&mut self.key, channel, Some(&product));
                if self.roster.is_known(&self.key) {
                    listed.insert(self.key.clone());
                }
            }
        }
        Some(listed)
    }

    /// All that the socket is subscribed to. Whether it says so.
    fn listed(&mut self, fields: &Fields<'_>, cx: &mut Cx<'_>) -> bool {
        let Some(listed) = self.read_list(fields) else { return false };
        self.answers += 1;
        for (key, joins, number) in self.calls.oldest_of_each() {
            let is_shown = listed.contains(&*key) == joins;
            if !is_shown && number > self.answers {
                continue;
            }
            self.calls.answered(&key);
            if !joins {
                self.left(&key, cx);
            } else if is_shown {
                self.roster.confirm(&key, cx);
            } else {
                let why = "the server does not list it among what it serves";
                self.roster.refuse(&key, Refusal::Final(why), cx);
            }
        }
        true
    }

    fn left(&mut self, key: &str, cx: &mut Cx<'_>) {
        if let Some(name) = self.roster.left(key) {
            self.join(&[name], cx);
        }
    }

    /// The oldest call without an answer is refused.
    fn refused(&mut self, words: &str, cx: &mut Cx<'_>) {
        self.answers += 1;
        let is_token = words.to_ascii_lowercase().contains("authentication failure");
        if is_token && self.is_private {
            return cx.failed(Verdict::NewToken, "the server refuses the token");
        }
        let Some(call) = self.calls.take(self.answers) else { return };
        if !call.joins {
            // It is not there: that is what was wanted.
            return call.keys.iter().for_each(|key| self.left(key, cx));
        }
        if let [key] = &*call.keys {
            let is_passing = words.to_ascii_lowercase().contains("rate limit");
            let refusal = if is_passing { Refusal::Passing } else { Refusal::Final(words) };
            return self.roster.refuse(key, refusal, cx);
        }
        // It does not say whom it means.
        let waits = |key: &str| self.roster.asked(key).is_some();
        let keys: Vec<_> = call.keys.iter().filter(|key| waits(key)).cloned().collect();
        let (some, rest) = keys.split_at(keys.len() / 2);
        self.call(true, some, cx);
        self.call(true, rest, cx);
    }

    /// Whether the message follows on the one before; else all are told.
    fn count(&mut self, fields: &Fields<'_>, cx: &mut Cx<'_>) {
        let Some(now) = fields.sequence.and_then(Raw::u64) else { return };
        let Some(before) = self.sequence.replace(now) else { return };
        let missed = now.checked_sub(before.saturating_add(1));
        if missed != Some(0) {
            self.roster.missed(missed, cx);
        }
    }

    /// Whether anybody knows the data.
    fn data(
        &mut self,
        channel: &Channel,
        fields: &Fields<'_>,
        m: &Message,
        cx: &mut Cx<'_>,
    ) -> bool {
        if channel.rows == Rows::Whole {
            return self.roster.data(channel.name, m, cx);
        }
        // Whom it was given to; mostly that is one.
        let (mut told, mut last) = (HashSet::new(), String::new());
        for event in fields.events() {
            channel.products(event, &mut |product| {
                if product == last || told.contains(product) {
                    return;
                }
                write_key(&mut self.key, channel, Some(product));
                if self.roster.data(&self.key, m, cx) {
                    let before = std::mem::replace(&mut last, product.to_owned());
                    told.insert(before);
                }
            });
        }
        !last.is_empty()
    }
}

impl Session for Channels {
    /// Something has to be asked for within 5 s; and without heartbeats, quiet channels are closed.
    fn open(&mut self, cx: &mut Cx<'_>) {
        if self.is_private && cx.token().is_none() {
            return cx.failed(Verdict::NewToken, "its channels want a token, and there is none");
        }
        self.calls.number();
        cx.push(r#"{"type":"subscribe","channel":"heartbeats"}"#);
        cx.ready();
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut new = Vec::new();
        for name in names {
            let Ok(want) = Want::of_name(name.as_str()) else { continue };
            let (key, events) = (want.key(), Events { is_state: want.channel.is_state });
            if self.roster.join(name, &key, events, cx) {
                new.push(key.into());
            }
        }
        self.call(true, &new, cx);
    }

    /// A call to join that waits goes on waiting: of each key, the oldest is answered first.
    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut leaving = Vec::new();
        for name in names {
            let Ok(want) = Want::of_name(name.as_str()) else { continue };
            let key = want.key();
            if self.roster.leave(name, &key, cx) {
                leaving.push(key.into());
            }
        }
        self.call(false, &leaving, cx);
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        self.beat = self.beat.and_then(|_| cx.now().checked_add(SILENCE));
        let text = message.as_text().unwrap_or_default();
        let Some(fields) = Fields::read(text) else { return cx.unroutable(message) };
        self.count(&fields, cx);
        let channel = fields.channel.and_then(Raw::string);
        let kind = || fields.kind.and_then(Raw::string);
        let is_known = match channel.as_deref() {
            Some("heartbeats") => {
                self.beat = cx.now().checked_add(SILENCE);
                cx.alive();
                true
            }
            Some("subscriptions") => self.listed(&fields, cx),
            Some(channel) => Channel::arriving(channel)
                .is_some_and(|channel| self.data(channel, &fields, message, cx)),
            None if kind().is_some_and(|kind| kind == "error") => {
                let words = fields.words.and_then(Raw::string).unwrap_or_default();
                self.refused(&words, cx);
                true
            }
            None => false,
        };
        if !is_known {
            cx.unroutable(message);
        }
    }

    /// There is no form for it.
    fn send(&mut self, _: &StreamName, _: Message, _: &mut Cx<'_>) {}

    /// What is subscribed to lives on; calls from now on have the fresh token.
    fn rotate(&mut self, _: &mut Cx<'_>) -> Rotation {
        Rotation::InPlace
    }

    fn deadline(&self) -> Option<Instant> {
        self.beat
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        if self.beat.is_some_and(|due| due <= cx.now()) {
            self.beat = None;
            cx.failed(Verdict::Retry, "the server's heartbeats have stopped");
        }
    }
}
