//! Where a topic's source leaves off and its next one goes on: plain data, no I/O and no clock.
//!
//! While a topic is handed over, two sockets bring the same feed. What the *source* brings is
//! delivered, and remembered as digests; what the *next* one brings is held. The topic goes over as
//! soon as it is known which message held follows on the last one delivered:
//!
//! - by the feed's own numbers, where its protocol reads them;
//! - by a snapshot, which needs nothing of what was before it;
//! - else by the messages themselves, see [`align`].
//!
//! # Invariants
//!
//! 1. What is remembered and what is held is bounded. A bound that is reached ends the search.
//! 2. A held message is dropped only where it is known that it was delivered. What is less sure is
//!    delivered, after a gap: loss is never risked to avoid a repeat.
//! 3. Silence proves nothing by itself, since a source whose socket is half-dead is silent too: a topic
//!    goes over in silence only once the source's peer has answered a ping that was made after the
//!    next one had joined and after the last message of either. The answer comes behind all that the
//!    server wrote there before, and what it writes later comes by the next one. Why nothing less
//!    proves it is said at the head of `connection/word.rs`.
//! 4. A next source that is lost takes what is held with it: the source has delivered that, or will.

mod align;

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use tokio::time::Instant;

use self::align::{in_step, overlap, signed};
use crate::config::StreamConfig;
use crate::engine::defect::{Defect, seeded};
use crate::message::{Message, MessageRef, Pack};
use crate::observe::ConnectionId;
use crate::protocol::Mark;

/// Messages of the source that are remembered. The two sockets are as far apart as a round trip.
const MAX_RECORD: usize = 16_384;

/// How many messages have to prove where the next source begins, while there may be more to come.
/// Values that repeat match by accident: of two that are equally likely, 32 in a row do so once in
/// four thousand million places.
const PROOF: usize = 32;

/// How many are enough once there is no more time or room.
const LATE_PROOF: usize = 8;

/// How long both have to be silent for their being silent to mean that both have brought the same.
const SETTLED: Duration = Duration::from_secs(1);

/// What a connection brought for one topic, in order.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    pub(crate) messages: Pack,
    /// The marks of those that have any, by place.
    pub(crate) marks: Vec<(usize, Mark)>,
}

impl Parcel {
    pub(crate) fn push(&mut self, message: Message, mark: Mark) {
        if mark != Mark::default() {
            self.marks.push((self.messages.len(), mark));
        }
        self.messages.push(message);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.messages.bytes()
    }

    /// The number of the last message that has one.
    pub(super) fn last_seq(&self) -> Option<u64> {
        self.marks.iter().rev().find_map(|(_, mark)| mark.seq)
    }

    fn into_items(self) -> impl Iterator<Item = (Message, Mark)> {
        let mut marks = self.marks.into_iter().peekable();
        self.messages.into_iter().enumerate().map(move |(place, message)| {
            let mark = marks.next_if(|(at, _)| *at == place).map(|(_, mark)| mark);
            (message, mark.unwrap_or_default())
        })
    }
}

impl FromIterator<(Message, Mark)> for Parcel {
    fn from_iter<I: IntoIterator<Item = (Message, Mark)>>(items: I) -> Self {
        let mut parcel = Self::default();
        items.into_iter().for_each(|(message, mark)| parcel.push(message, mark));
        parcel
    }
}

/// A topic on its way from one source to the next.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) to: ConnectionId,
    /// When the latest ping was made that the source's peer has answered.
    answered: Option<Instant>,
    /// Digests of what the source delivered, the latest.
    delivered: VecDeque<u64>,
    held: Vec<(Message, Mark)>,
    held_bytes: usize,
    held_digests: Vec<u64>,
    joined_at: Option<Instant>,
    keys: RandomState,
    last_seq: Option<u64>,
    /// When either brought something last.
    moved_at: Instant,
    /// Whether the source delivered anything since the next one joined.
    source_spoke: bool,
}

/// How a topic goes over.
#[derive(Debug)]
pub(super) struct Seam {
    /// What of the next source has yet to be dropped, since it was delivered.
    pub(super) ahead: Option<Ahead>,
    /// Whether it is not known what is missing between the two.
    pub(super) is_torn: bool,
    /// What is to be delivered next.
    pub(super) parcel: Parcel,
}

/// What is to be done about a handover that has taken its time.
#[derive(Debug)]
pub(super) enum Review {
    /// Look again then.
    Again(Instant),
    GoOver,
    /// The next source says nothing, while the source does.
    Mute,
}

impl Handover {
    /// To connection `to`; `last_seq` is the number of the message delivered last.
    pub(super) fn new(to: ConnectionId, last_seq: Option<u64>, now: Instant) -> Self {
        Self {
            to,
            answered: None,
            delivered: VecDeque::new(),
            held: Vec::new(),
            held_bytes: 0,
            held_digests: Vec::new(),
            joined_at: None,
            keys: RandomState::new(),
            last_seq,
            moved_at: now,
            source_spoke: false,
        }
    }

    /// The next source has joined: what it brings from here on is held.
    pub(super) fn joined(&mut self, now: Instant) {
        self.let_go();
        self.joined_at = Some(now);
        self.moved_at = now;
        self.source_spoke = false;
    }

    pub(super) fn has_joined(&self) -> bool {
        self.joined_at.is_some()
    }

    /// The source's peer has answered a ping that was made at `asked_at`.
    pub(super) fn answered(&mut self, asked_at: Instant) {
        self.answered = self.answered.max(Some(asked_at));
    }

    /// Whether an answer would tell more than is known.
    pub(super) fn wants_word(&self) -> bool {
        let could_go = !self.held.is_empty() || !self.source_spoke;
        self.has_joined() && could_go && !self.is_proved()
    }

    /// Whether the source has brought all that its server wrote until the last thing happened, the
    /// join or a message.
    fn is_proved(&self) -> bool {
        self.answered > Some(self.moved_at) || seeded(Defect::SilenceIsTrusted)
    }

    /// The next source is lost, or has to begin anew.
    pub(super) fn lost(&mut self) {
        self.let_go();
        self.joined_at = None;
    }

    /// The next source knows of a hole in what it brings: what it brought before is of no use.
    pub(super) fn let_go(&mut self) {
        (self.held, self.held_digests, self.held_bytes) = (Vec::new(), Vec::new(), 0);
    }

    /// The readers were told of a hole: what they got before does not tell what comes after.
    pub(super) fn forget(&mut self) {
        self.delivered.clear();
        self.last_seq = None;
    }

    /// The source delivers `parcel`.
    pub(super) fn deliver(&mut self, parcel: &Parcel, now: Instant) {
        for message in parcel.messages.iter() {
            self.delivered.push_back(digest(message, &self.keys));
        }
        while self.delivered.len() > MAX_RECORD {
            self.delivered.pop_front();
        }
        self.last_seq = parcel.last_seq().or(self.last_seq);
        self.moved_at = now;
        self.source_spoke = true;
    }

    /// The next source brings `parcel`. Returns whether there is room for more.
    pub(super) fn hold(&mut self, parcel: Parcel, settings: &StreamConfig, now: Instant) -> bool {
        self.held_bytes += parcel.bytes();
        for (message, mark) in parcel.into_items() {
            self.held_digests.push(digest((&message).into(), &self.keys));
            self.held.push((message, mark));
        }
        self.moved_at = now;
        self.held.len() < settings.buffer && self.held_bytes < settings.buffer_bytes
    }

    /// The seam, if it is known and there may be more to come.
    pub(super) fn seam(&mut self) -> Option<Seam> {
        self.find(PROOF)
    }

    /// The seam as far as it can be known: there is no more time, no more room, or no source.
    pub(super) fn last_seam(&mut self) -> Seam {
        self.find(LATE_PROOF).unwrap_or_else(|| self.torn())
    }

    /// What is to be done at `now`, given so much time since the next source joined.
    pub(super) fn review(&mut self, now: Instant, timeout: Duration) -> Review {
        let Some(joined_at) = self.joined_at else { return Review::Again(now + timeout) };
        let settled = SETTLED.min(timeout / 2);
        let (deadline, settled_at) = (joined_at + timeout, self.moved_at + settled);
        let is_late = deadline <= now;
        match (self.held.is_empty(), self.source_spoke) {
            (false, true) if settled_at <= now && self.in_step().is_some() => Review::GoOver,
            (false, _) if is_late => Review::GoOver,
            (true, false) if is_late => Review::GoOver,
            (true, true) if is_late => Review::Mute,
            // What comes next may bring them in step, and be followed by silence once more.
            _ if settled_at <= now => Review::Again(deadline.min(now + settled)),
            _ => Review::Again(deadline.min(settled_at)),
        }
    }

    /// The seam of a handover that is to be ended by a [review](Self::review).
    pub(super) fn reviewed_seam(&mut self, now: Instant, timeout: Duration) -> Seam {
        if self.held.is_empty() {
            let is_torn = !self.is_proved();
            return Seam { ahead: None, is_torn, parcel: Parcel::default() };
        }
        let is_settled = self.moved_at + SETTLED.min(timeout / 2) <= now;
        match self.in_step().filter(|_| is_settled) {
            Some(shift) => self.at(shift),
            None => self.last_seam(),
        }
    }

    fn find(&mut self, proof: usize) -> Option<Seam> {
        let first = self.held.first()?.1;
        if let Some(seam) = self.at_snapshot() {
            return Some(seam);
        }
        match first.seq.zip(self.last_seq) {
            Some((first, last)) => (first <= last.saturating_add(1)).then(|| self.after(last)),
            None => {
                let delivered = self.delivered.make_contiguous();
                let overlap = overlap(delivered, &self.held_digests)?;
                let is_proved = overlap.proof() >= proof || seeded(Defect::RepeatIsDropped);
                is_proved.then(|| self.at(overlap.shift))
            }
        }
    }

    /// A snapshot ends the search. What came before it is dropped only if all of it was delivered.
    fn at_snapshot(&mut self) -> Option<Seam> {
        let at = self.held.iter().position(|(_, mark)| mark.snapshot)?;
        let before = &self.held_digests[..at];
        let delivered = self.delivered.make_contiguous();
        let is_known = at == 0 || delivered.windows(at).any(|window| window == before);
        let held = std::mem::take(&mut self.held);
        let parcel = held.into_iter().skip(if is_known { at } else { 0 }).collect();
        Some(Seam { ahead: None, is_torn: false, parcel })
    }

    /// What is held goes on after number `last`.
    fn after(&mut self, last: u64) -> Seam {
        let is_new = |(_, mark): &(Message, Mark)| mark.seq.is_some_and(|seq| seq > last);
        let at = self.held.iter().position(is_new).unwrap_or(self.held.len());
        let ahead = (at == self.held.len()).then(|| Ahead::by_number(last));
        let held = std::mem::take(&mut self.held);
        Seam { ahead, is_torn: false, parcel: held.into_iter().skip(at).collect() }
    }

    /// The first message held is the one at `shift` of what is remembered.
    fn at(&mut self, shift: isize) -> Seam {
        let delivered = signed(self.delivered.len());
        let repeated = usize::try_from(delivered - shift).unwrap_or(0);
        let repeated = if seeded(Defect::HandoverRepeats) { 0 } else { repeated };
        let met = usize::try_from(shift + signed(self.held.len())).unwrap_or(0);
        let ahead: VecDeque<_> = self.delivered.iter().skip(met).copied().collect();
        let ahead = (!ahead.is_empty()).then(|| Ahead::by_digest(ahead, self.keys.clone()));
        let held = std::mem::take(&mut self.held);
        Seam { ahead, is_torn: false, parcel: held.into_iter().skip(repeated).collect() }
    }

    /// Nothing is known: all that is held is delivered, after a gap.
    fn torn(&mut self) -> Seam {
        let parcel = std::mem::take(&mut self.held).into_iter().collect();
        Seam { ahead: None, is_torn: true, parcel }
    }

    /// Where the next source begins, if both have brought the same, and the source lives. What was
    /// delivered before the other joined must be found at one place only.
    fn in_step(&mut self) -> Option<isize> {
        if !self.is_proved() {
            return None;
        }
        let delivered = self.delivered.make_contiguous();
        let shift = in_step(delivered, &self.held_digests)?;
        let is_sure = self.source_spoke
            || overlap(delivered, &self.held_digests).is_some_and(|o| o.is_only());
        is_sure.then_some(shift)
    }
}

/// What was delivered by the one source, and is yet to be brought by the other.
#[derive(Debug)]
pub(super) struct Ahead {
    digests: VecDeque<u64>,
    keys: RandomState,
    /// The number delivered last.
    last: Option<u64>,
}

impl Ahead {
    fn by_digest(digests: VecDeque<u64>, keys: RandomState) -> Self {
        Self { digests, keys, last: None }
    }

    fn by_number(last: u64) -> Self {
        Self { digests: VecDeque::new(), keys: RandomState::new(), last: Some(last) }
    }

    /// Whether nothing is to be dropped any more.
    pub(super) fn is_done(&self) -> bool {
        self.digests.is_empty() && self.last.is_none()
    }

    /// Takes out of `parcel` what was delivered. The second is whether what came was not what had to
    /// come, so that something may be missing before it.
    pub(super) fn drop_from(&mut self, parcel: Parcel) -> (Parcel, bool) {
        let mut is_torn = false;
        let rest = parcel.into_items().filter(|(message, mark)| {
            if let Some(last) = self.last {
                let is_new = mark.seq.is_some_and(|seq| seq > last);
                self.last = self.last.filter(|_| !is_new);
                return is_new;
            }
            let Some(expected) = self.digests.pop_front() else { return true };
            if digest(message.into(), &self.keys) == expected {
                return false;
            }
            self.digests.clear();
            is_torn = true;
            true
        });
        let rest = rest.collect();
        (rest, is_torn)
    }
}

/// Stands for a message. The keys are random, so that nobody can make two messages of one digest.
fn digest(message: MessageRef<'_>, keys: &RandomState) -> u64 {
    keys.hash_one((message.is_text(), message.as_bytes()))
}

#[cfg(test)]
mod tests;
