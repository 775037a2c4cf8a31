//! Channels by their own names, as Deribit has them.
//!
//! - Channels are joined many by one call, whose result lists those that were accepted; what is not in
//!   it is refused. A channel that is left and wanted again is not asked for before the server has
//!   confirmed that it was left: else the two might be carried out the other way round.
//! - What comes of a channel before the answer to its call is held, as a book's snapshot is.
//! - Changes of a book are a chain, `prev_change_id` to `change_id`; where it is broken, that is a gap.
//! - The server asks for signs of life and gets them; where it gives none itself, the socket is given up.
//!
//! Source: Deribit API v2, `public/subscribe`, `public/set_heartbeat`, `public/auth`, `book.*`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::calls::Calls;
use super::session::{Dialogue, Notice, part};
use super::wire::{self, Fault, Outcome};
use crate::config::Secret;
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::courtesy::Courtesy;
use crate::protocol::held::Held;
use crate::protocol::json::{Raw, pick, quote};
use crate::protocol::{Cx, Mark, Rotation, To, Verdict};

/// Codes that say that it may go well another time: too many requests, retry, settlement in progress,
/// a full queue, maintenance, time-out, internal error.
const PASSING: &[i64] = &[10028, 10040, 10041, 10047, 11051, 13888, -32603];
/// Codes that say that the token is not good: invalid credentials, unauthorized.
const UNAUTHORIZED: &[i64] = &[13004, 13009];

pub(super) struct Channels {
    /// The interval of heartbeats, in seconds.
    beat: u64,
    beats: bool,
    channels: HashMap<StreamName, Channel>,
    client_id: Option<Arc<str>>,
    courtesy: Courtesy,
    heard: Option<Instant>,
    held: Held,
    /// Joins that are not answered.
    opening: usize,
    ready: bool,
    /// `private/` where a token was said, as it takes all channels; else `public/`.
    scope: &'static str,
}

struct Channel {
    /// The last change of a book.
    last: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// By the call of this number.
    Asked(u64),
    Joined,
    Leaving {
        wanted: bool,
    },
}

#[derive(Debug)]
pub(super) enum Call {
    Auth,
    Beat,
    /// What the server wants to see called.
    Test,
    Join(Vec<StreamName>),
    Leave(Vec<StreamName>),
}

impl Channels {
    pub(super) fn new(client_id: Option<Arc<str>>, beat: Duration) -> Self {
        Self {
            beat: beat.as_secs(),
            beats: false,
            channels: HashMap::new(),
            client_id,
            courtesy: Courtesy::default(),
            heard: None,
            held: Held::default(),
            opening: 0,
            ready: false,
            scope: "public",
        }
    }

    fn authenticate(&self, token: &Secret, calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        let token = quote(token.expose());
        let params = match &self.client_id {
            Some(id) => format!(
                r#"{{"grant_type":"client_credentials","client_id":{},"client_secret":{token}}}"#,
                quote(id)
            ),
            None => format!(r#"{{"grant_type":"refresh_token","refresh_token":{token}}}"#),
        };
        cx.push(wire::call(calls.own(Call::Auth), "public/auth", &params));
    }

    fn ask(&mut self, names: Vec<StreamName>, calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        if names.is_empty() {
            return;
        }
        let (params, number) = (list(&names), calls.own(Call::Join(names.clone())));
        cx.push(wire::call(number, &format!("{}/subscribe", self.scope), &params));
        for name in names {
            self.channels.insert(name, Channel { last: None, state: State::Asked(number) });
        }
        self.opening += 1;
    }

    /// The names of call `number` that still wait for it.
    fn waiting(&self, number: u64, names: Vec<StreamName>) -> Vec<StreamName> {
        let is_it = |name: &StreamName| {
            self.channels.get(name).is_some_and(|channel| channel.state == State::Asked(number))
        };
        names.into_iter().filter(is_it).collect()
    }

    fn joined(&mut self, names: Vec<StreamName>, result: Raw<'_>, cx: &mut Cx<'_>) {
        let listed = result.elements().ok().into_iter().flatten().map_while(Result::ok);
        let listed: HashSet<_> = listed.filter_map(Raw::string).collect();
        for name in names {
            if !listed.contains(name.as_str()) {
                self.channels.remove(&name);
                cx.rejected(name.as_str(), "the server does not list it among what it accepts");
                continue;
            }
            cx.joined(name.as_str());
            let (early, lost) = self.held.take(name.as_str());
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            channel.state = State::Joined;
            if lost {
                cx.gap(To::Name(name.as_str()), None);
            }
            early.into_iter().for_each(|payload| channel.deliver(name.as_str(), payload, cx));
        }
    }

    fn refused(&mut self, names: Vec<StreamName>, error: Raw<'_>, cx: &mut Cx<'_>) {
        let fault = Fault::read(error);
        let is = |codes: &[i64]| fault.code.is_some_and(|code| codes.contains(&code));
        if is(UNAUTHORIZED) && cx.token().is_some() {
            return cx.failed(Verdict::NewToken, &fault.words);
        }
        for name in names {
            self.channels.remove(&name);
            match is(PASSING) {
                true => cx.ended(name.as_str()),
                false => cx.rejected(name.as_str(), &fault.words),
            }
        }
    }

    /// Whether they were left or not, the server has done what it does about it.
    fn left(&mut self, names: Vec<StreamName>, calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        let mut again = Vec::new();
        for name in names {
            if let Some(State::Leaving { wanted }) = self.channels.get(&name).map(|c| c.state) {
                self.channels.remove(&name);
                if wanted {
                    again.push(name);
                }
            }
        }
        self.ask(again, calls, cx);
    }

    fn data(&mut self, notice: &Notice<'_>, cx: &mut Cx<'_>) -> bool {
        let Some(params) = notice.params else { return false };
        let Ok([Some(of), Some(data)]) = pick(params.as_str(), ["channel", "data"]) else {
            return false;
        };
        let Some(of) = of.string() else { return false };
        let Some(channel) = self.channels.get_mut(&*of) else { return false };
        let payload = part(notice.message, data);
        match channel.state {
            State::Asked(_) => return self.held.hold(&of, payload),
            State::Joined => channel.deliver(&of, payload, cx),
            State::Leaving { .. } => {}
        }
        true
    }
}

impl Channel {
    fn deliver(&mut self, name: &str, payload: Message, cx: &mut Cx<'_>) {
        if !name.starts_with("book.") {
            return cx.data(To::Name(name), payload);
        }
        let keys = ["type", "change_id", "prev_change_id"];
        let fields = payload.as_text().and_then(|text| pick(text, keys).ok()).unwrap_or_default();
        let [kind, change, previous] = fields;
        let Some(change) = change.and_then(Raw::u64) else {
            return cx.data(To::Name(name), payload);
        };
        // A book in groups comes as a whole each time, and says no type.
        let is_whole = kind.and_then(Raw::string).is_none_or(|kind| kind == "snapshot");
        let last = self.last.replace(change);
        let mark = Mark::default().seq(change);
        if is_whole {
            return cx.data_marked(To::Name(name), payload, mark.snapshot());
        }
        if last.is_some() && last != previous.and_then(Raw::u64) {
            cx.gap(To::Name(name), None);
        }
        cx.data_marked(To::Name(name), payload, mark);
    }
}

impl Dialogue for Channels {
    type Call = Call;

    fn open(&mut self, calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        let params = format!(r#"{{"interval":{}}}"#, self.beat);
        cx.push(wire::call(calls.own(Call::Beat), "public/set_heartbeat", &params));
        match cx.token().cloned() {
            None => {
                self.ready = true;
                cx.ready();
            }
            Some(token) => {
                self.scope = "private";
                self.authenticate(&token, calls, cx);
            }
        }
    }

    fn join(&mut self, names: &[StreamName], calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        let mut new = Vec::new();
        for name in names {
            match self.channels.get_mut(name).map(|channel| &mut channel.state) {
                None => new.push(name.clone()),
                Some(State::Asked(_)) => {}
                Some(State::Joined) => cx.joined(name.as_str()),
                Some(State::Leaving { wanted }) => *wanted = true,
            }
        }
        self.ask(new, calls, cx);
    }

    fn leave(&mut self, names: &[StreamName], calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        let mut leaving = Vec::new();
        for name in names {
            let Some(channel) = self.channels.get_mut(name) else { continue };
            if !matches!(channel.state, State::Leaving { .. }) {
                leaving.push(name.clone());
            }
            channel.state = State::Leaving { wanted: false };
            drop(self.held.take(name.as_str()));
        }
        if !leaving.is_empty() {
            let (params, number) = (list(&leaving), calls.own(Call::Leave(leaving)));
            cx.push(wire::call(number, &format!("{}/unsubscribe", self.scope), &params));
        }
    }

    fn answered(
        &mut self,
        (number, call): (u64, Call),
        outcome: Outcome<'_>,
        calls: &mut Calls<Call>,
        cx: &mut Cx<'_>,
    ) {
        self.heard = Some(cx.now());
        match (call, outcome) {
            (Call::Auth, Ok(_)) => {
                if !std::mem::replace(&mut self.ready, true) {
                    cx.ready();
                }
            }
            (Call::Auth, Err(error)) => cx.failed(Verdict::NewToken, &Fault::read(error).words),
            (Call::Beat, outcome) => self.beats = outcome.is_ok(),
            (Call::Test, _) => {}
            (Call::Leave(names), _) => self.left(names, calls, cx),
            (Call::Join(names), outcome) => {
                let names = self.waiting(number, names);
                match outcome {
                    Ok(result) => self.joined(names, result, cx),
                    Err(error) => self.refused(names, error, cx),
                }
                self.opening -= 1;
                if self.opening == 0 {
                    self.held.clear().for_each(|payload| cx.unroutable(&payload));
                }
            }
        }
    }

    fn notice(&mut self, notice: Notice<'_>, calls: &mut Calls<Call>, cx: &mut Cx<'_>) -> bool {
        self.heard = Some(cx.now());
        match &*notice.method {
            "subscription" => self.data(&notice, cx),
            "heartbeat" => {
                let kind = notice.params.and_then(|params| params.field("type")?.string());
                if kind.is_some_and(|kind| kind == "test_request") {
                    match self.courtesy.may_answer(cx.now()) {
                        true => cx.push(wire::call(calls.own(Call::Test), "public/test", "{}")),
                        false => cx.failed(Verdict::Retry, "the server floods with test requests"),
                    }
                }
                true
            }
            _ => false,
        }
    }

    fn rotate(&mut self, calls: &mut Calls<Call>, cx: &mut Cx<'_>) -> Rotation {
        match cx.token().cloned() {
            Some(token) if self.scope == "private" => {
                self.authenticate(&token, calls, cx);
                Rotation::InPlace
            }
            _ => Rotation::Reconnect,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = Duration::from_secs(self.beat.saturating_mul(2));
        self.heard.filter(|_| self.beats)?.checked_add(limit)
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        if self.deadline().is_some_and(|due| due <= cx.now()) {
            self.beats = false;
            cx.failed(Verdict::Retry, "the server's heartbeats have stopped");
        }
    }
}

/// The parameters of a call about channels.
fn list(names: &[StreamName]) -> String {
    let names: Vec<_> = names.iter().map(|name| quote(name.as_str())).collect();
    format!(r#"{{"channels":[{}]}}"#, names.join(","))
}
