//! What is said on one socket of combined streams.
//!
//! - Requests are numbered, and answers name the number. What answers an earlier join of a name, which
//!   was left since, does not count. A failure without a number is of the oldest request that has no
//!   answer: the server answers in order.
//! - A name whose join is refused alone is rejected. A batch that is refused is asked for again in
//!   halves.
//! - What is kept grows with the names that are wanted, and with nothing that the server says.

use std::collections::{BTreeMap, HashMap};

use super::going::{Going, is_shutdown};
use super::market::Market;
use super::name;
use super::sequence::Sequence;
use super::wire::{Frame, request};
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::json::Raw;
use crate::protocol::{Cx, Session, To, short};

/// Requests without an answer that are remembered. The oldest is forgotten: its names' joins are long
/// overdue.
const MAX_PENDING: usize = 1024;

pub(super) struct Combined {
    feeds: HashMap<Box<str>, Feed>,
    going: Going,
    last_id: u64,
    market: Market,
    pending: BTreeMap<u64, Asked>,
}

/// A name that is wanted.
struct Feed {
    /// The request that joins it; 0 is the URL.
    join: u64,
    joined: bool,
    sequence: Sequence,
}

enum Asked {
    Join(Vec<StreamName>),
    Leave,
}

impl Combined {
    /// `names` are those that the URL may have joined.
    pub(super) fn new(market: Market, names: &[StreamName]) -> Self {
        let feed = |name: &StreamName| {
            let sequence = Sequence::new(name::rule(name.as_str(), market));
            (name.as_str().into(), Feed { join: 0, joined: true, sequence })
        };
        Self {
            feeds: names.iter().map(feed).collect(),
            going: Going::default(),
            last_id: 0,
            market,
            pending: BTreeMap::new(),
        }
    }

    fn ask(&mut self, method: &str, names: &[StreamName], asked: Asked, cx: &mut Cx<'_>) -> u64 {
        self.last_id += 1;
        cx.push(request(method, names, self.last_id));
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_first();
        }
        self.pending.insert(self.last_id, asked);
        self.last_id
    }

    fn data(&mut self, name: &str, payload: Raw<'_>, message: &Message, cx: &mut Cx<'_>) {
        if name == name::SHUTDOWN {
            return self.going.say(cx);
        }
        let Some(feed) = self.feeds.get_mut(name).filter(|feed| feed.joined) else {
            return cx.unroutable(message);
        };
        let (mark, hole) = feed.sequence.step(payload);
        if let Some(hole) = hole {
            cx.gap(To::Name(name), hole.missed);
        }
        let payload = message.part(payload.as_str().as_bytes());
        cx.data_marked(To::Name(name), payload, mark);
    }

    fn confirmed(&mut self, id: u64, names: &[StreamName], cx: &mut Cx<'_>) {
        for name in names {
            let feed = self.feeds.get_mut(name.as_str()).filter(|feed| feed.join == id);
            if let Some(feed) = feed {
                feed.joined = true;
                feed.sequence.begin();
                cx.joined(name.as_str());
            }
        }
    }

    fn refused(&mut self, id: u64, names: Vec<StreamName>, why: &str, cx: &mut Cx<'_>) {
        let is_wanted =
            |name: &StreamName| self.feeds.get(name.as_str()).is_some_and(|feed| feed.join == id);
        let names: Vec<_> = names.into_iter().filter(is_wanted).collect();
        match &names[..] {
            [] => {}
            [name] => {
                self.feeds.remove(name.as_str());
                cx.rejected(name.as_str(), short(why));
            }
            several => {
                let (first, second) = several.split_at(several.len() / 2);
                self.join(first, cx);
                self.join(second, cx);
            }
        }
    }

    fn answer(&mut self, id: Option<u64>, outcome: Result<(), &str>, cx: &mut Cx<'_>) -> bool {
        let asked = match id {
            Some(id) => self.pending.remove(&id).map(|asked| (id, asked)),
            None => self.pending.pop_first(),
        };
        match (asked, outcome) {
            (Some((id, Asked::Join(names))), Ok(())) => self.confirmed(id, &names, cx),
            (Some((id, Asked::Join(names))), Err(why)) => self.refused(id, names, why, cx),
            (Some((_, Asked::Leave)), _) => {}
            (None, _) => return false,
        }
        true
    }
}

impl Session for Combined {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.going.open(cx);
        cx.ready();
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let join = self.ask("SUBSCRIBE", names, Asked::Join(names.to_vec()), cx);
        for name in names {
            let sequence = Sequence::new(name::rule(name.as_str(), self.market));
            self.feeds.insert(name.as_str().into(), Feed { join, joined: false, sequence });
        }
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        self.ask("UNSUBSCRIBE", names, Asked::Leave, cx);
        for name in names {
            self.feeds.remove(name.as_str());
        }
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let text = message.as_text().unwrap_or_default();
        match Frame::read(text) {
            Some(Frame::Data { name, payload }) => self.data(&name, payload, message, cx),
            Some(Frame::Answer { id, outcome }) => {
                if !self.answer(id, outcome.as_ref().copied().map_err(|why| &**why), cx) {
                    cx.unroutable(message);
                }
            }
            // As on a raw stream.
            None if is_shutdown(text) => self.going.say(cx),
            None => cx.unroutable(message),
        }
    }
}
