//! Where what a session says is carried out.
//!
//! Data is collected and published once per read; whatever else concerns a reader is preceded by
//! the data before it, so that order is kept by construction.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::mask::Mask;
use super::members::{GivenUp, Members};
use super::outbox::Outbox;
use crate::engine::moment::Moment;
use crate::engine::outgoing::Outgoing;
use crate::engine::request::Owed;
use crate::error::{CloseReason, Gap};
use crate::message::Message;
use crate::observe::Metrics;
use crate::protocol::{DisconnectReason, Mark, Outlet, RequestId, To, Verdict};
use crate::transport::Frame;

pub(super) struct Desk<'a> {
    pub(super) owed: &'a mut Owed<Arc<Outgoing>>,
    pub(super) attempt: u32,
    pub(super) mask: &'a Mask,
    pub(super) members: &'a mut Members,
    pub(super) metrics: &'a Metrics,
    pub(super) now: Instant,
    pub(super) outbox: &'a mut Outbox,
    pub(super) said: &'a mut Said,
}

/// What a session said that is acted upon after it has spoken.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// When the first name was joined.
    pub(super) joined_at: Option<Moment>,
    pub(super) ready: bool,
    /// What is rare.
    pub(super) upshot: Option<Box<Upshot>>,
}

impl Said {
    fn upshot(&mut self) -> &mut Upshot {
        self.upshot.get_or_insert_default()
    }
}

#[derive(Debug, Default)]
pub(super) struct Upshot {
    pub(super) failed: Option<(Verdict, String)>,
    /// Streams that are over, to be closed for their readers.
    pub(super) over: Vec<GivenUp>,
    /// Requests whose replies grew too long.
    pub(super) overrun: Vec<RequestId>,
    /// How long the server goes on with this socket.
    pub(super) reconnect_within: Option<Duration>,
}

impl Outlet for Desk<'_> {
    /// That a frame came is known already.
    fn alive(&mut self) {}

    fn data(&mut self, to: To<'_>, payload: Message, mark: Mark) {
        self.members.data(to, payload, mark);
    }

    fn ended(&mut self, name: &str) {
        if let Some(given_up) = self.members.ended(name, self.now) {
            self.said.upshot().over.push(given_up);
        }
    }

    fn failed(&mut self, verdict: Verdict, why: &str) {
        self.said.upshot().failed.get_or_insert_with(|| (verdict, self.mask.apply(why)));
    }

    fn gap(&mut self, to: To<'_>, missed: Option<u64>) {
        self.members.missing(to, &Gap::Sequence { missed }, self.now);
    }

    fn has_room(&mut self, name: &str, len: usize) -> bool {
        self.members.has_room(name, len, self.now)
    }

    fn joined(&mut self, name: &str) {
        self.said.joined_at.get_or_insert(self.now.into());
        self.members.confirmed(name, self.attempt, self.now);
    }

    fn pause(&mut self, how_long: Duration) {
        self.outbox.pause(self.now, how_long);
    }

    fn push(&mut self, message: Message) {
        self.outbox.push(Frame::Data(message));
    }

    fn ready(&mut self) {
        self.said.ready = true;
    }

    fn reconnected(&mut self, to: To<'_>, down_for: Duration, reason: DisconnectReason) {
        self.members.missing(to, &Gap::Reconnected { down_for, reason }, self.now);
    }

    fn reconnect(&mut self, within: Duration) {
        self.said.upshot().reconnect_within = Some(within);
    }

    fn rejected(&mut self, name: &str, why: &str) {
        if let Some(topic) = self.members.rejected(name, self.now) {
            let reason = CloseReason::Rejected { reason: self.mask.apply(why).into() };
            self.said.upshot().over.push((topic, reason));
        }
    }

    fn reply(&mut self, id: RequestId, part: Option<Message>, last: bool) {
        if self.owed.reply(id, part, last) {
            self.said.upshot().overrun.push(id);
        }
    }

    fn reply_failed(&mut self, id: RequestId, words: Message) {
        self.owed.failed(id, self.mask.apply_to_message(words));
    }

    fn reply_unknown(&mut self, id: RequestId) {
        self.owed.unknown(id);
    }

    fn unroutable(&mut self, _: &Message) {
        self.metrics.unroutable(1);
    }
}
