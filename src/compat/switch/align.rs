//! Where one stream leaves off and another that carries the same goes on: plain data, no I/O.
//!
//! Two lists are laid over each other: what the reader was *delivered* by the one stream, as
//! digests, and what the other brought meanwhile, which is *held*. A *shift* is a place in the first
//! list at which the second may begin such that both are equal wherever they overlap. The lists
//! are aligned when one shift alone is left, and [`OVERLAP`] messages or more in the overlap are
//! found once only in each list: a message that equals another may be the next of its kind. So a
//! message is dropped only where its neighbours in the feed agree; whatever is less sure is told as
//! a gap, and delivered.
//!
//! A shift below zero says that what is held began earlier than the record: what comes before the
//! record's first message was delivered before it, as a stream has no holes that it does not tell of.
//!
//! # Invariants
//!
//! 1. What is held and what is remembered is bounded, in messages and bytes.
//! 2. A step costs as much as there are shifts, which are at most [`MAX_SHIFTS`]; beyond, the feed
//!    repeats itself too much to be aligned at all. What is linear in the lists is done for the first
//!    message on either side, and while there is one shift that lacks but evidence.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;

use crate::decode::DecodeError;
use crate::message::Message;

/// Messages remembered as delivered, and messages held.
pub(super) const MAX_MESSAGES: usize = 1024;
/// Bytes of messages held; the last one may exceed it.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAX_SHIFTS: usize = 64;
/// Messages, unlike any other, that have to be equal on both sides.
const OVERLAP: usize = 3;

/// A message, or one that its source could not read.
pub(super) type Item = Result<Message, DecodeError>;

/// Stands for a message's bytes. The keys are random, so that nobody can make two messages of one
/// digest.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Digest {
    hash: u64,
    len: usize,
}

impl Digest {
    pub(super) fn of(message: &Message, keys: &RandomState) -> Self {
        let bytes = message.as_bytes();
        Self { hash: keys.hash_one(bytes), len: bytes.len() }
    }
}

/// How the two lists stand to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// One shift, and enough evidence for it.
    Aligned,
    /// The feed repeats itself: no end of shifts.
    Hopeless,
    /// All that is held seems to be delivered already: nobody waits for it.
    Idle,
    /// Something is held that the reader may not have.
    Withholding,
}

/// What was delivered by one stream and is held of the other.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    bytes: usize,
    delivered: VecDeque<Digest>,
    /// How many are gone from the front of `delivered`: its first has this position.
    forgotten: usize,
    held: VecDeque<(Digest, Item)>,
    /// Positions in `delivered` of the first that is held.
    shifts: Vec<isize>,
    repetitive: bool,
}

/// What is left to do once the one stream has been left for the other.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Delivered already, and yet to be brought by the other stream.
    pub(super) ahead: VecDeque<Digest>,
    /// Held, and not delivered.
    pub(super) items: VecDeque<Item>,
}

#[expect(clippy::cast_possible_wrap, reason = "counts of messages")]
fn signed(count: usize) -> isize {
    count as isize
}

impl Overlap {
    /// Nothing is held, and `delivered` is the latest that the reader got.
    pub(super) fn new(delivered: VecDeque<Digest>) -> Self {
        Self { delivered, ..Self::default() }
    }

    /// The reader got a message from the stream it has.
    pub(super) fn deliver(&mut self, digest: Digest) {
        let at = signed(self.end());
        let held = &self.held;
        self.shifts.retain(|shift| {
            let facing = usize::try_from(at - shift).ok().and_then(|place| held.get(place));
            facing.is_none_or(|(held, _)| *held == digest)
        });
        if at == 0 {
            let places = (1..held.len()).filter(|place| held[*place].0 == digest);
            self.shifts.extend(places.map(|place| -signed(place)));
        }
        if held.front().is_some_and(|(first, _)| *first == digest) {
            self.shifts.push(at);
        }
        self.delivered.push_back(digest);
        if self.delivered.len() > MAX_MESSAGES {
            self.delivered.pop_front();
            self.forgotten += 1;
            let (first, held) = (signed(self.forgotten), signed(self.held.len()));
            self.shifts.retain(|shift| shift + held >= first);
        }
        self.limit_shifts();
    }

    /// The other stream brought a message.
    pub(super) fn hold(&mut self, digest: Digest, item: Item) {
        let place = signed(self.held.len());
        let (delivered, forgotten) = (&self.delivered, signed(self.forgotten));
        self.shifts.retain(|shift| {
            let facing = usize::try_from(shift + place - forgotten).ok();
            facing.and_then(|at| delivered.get(at)).is_none_or(|delivered| *delivered == digest)
        });
        if place == 0 {
            let equal = delivered.iter().enumerate().filter(|(_, delivered)| **delivered == digest);
            self.shifts.extend(equal.map(|(at, _)| signed(at) + forgotten));
        } else if forgotten == 0 && delivered.front() == Some(&digest) {
            self.shifts.push(-place);
        }
        self.bytes += digest.len;
        self.held.push_back((digest, item));
        self.limit_shifts();
    }

    fn limit_shifts(&mut self) {
        self.repetitive |= self.shifts.len() > MAX_SHIFTS;
        self.shifts.truncate(MAX_SHIFTS);
    }

    /// The other stream had a break. What comes after it is compared anew; what came before it
    /// comes from the stream that the reader has.
    pub(super) fn restart(&mut self) {
        let delivered = std::mem::take(&mut self.delivered);
        *self = Self { delivered, forgotten: self.forgotten, ..Self::default() };
    }

    /// The reader was told of a break: what it got before does not tell what comes after.
    pub(super) fn forget(&mut self) {
        self.delivered.clear();
        self.shifts.clear();
        self.forgotten = 0;
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= MAX_MESSAGES || self.bytes >= MAX_BYTES
    }

    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) fn standing(&self) -> Standing {
        let (end, held) = (signed(self.end()), signed(self.held.len()));
        match self.shifts[..] {
            _ if held == 0 => Standing::Idle,
            _ if self.repetitive => Standing::Hopeless,
            [shift] if end.min(shift + held) - shift.max(0) >= signed(OVERLAP) => {
                let is_proven = self.unique_pairs(shift) >= OVERLAP;
                if is_proven { Standing::Aligned } else { Standing::Withholding }
            }
            // With no room for more, waiting teaches nothing.
            [shift] if shift + held <= end && !self.is_full() => Standing::Idle,
            _ => Standing::Withholding,
        }
    }

    /// Messages in the overlap that each list has once.
    fn unique_pairs(&self, shift: isize) -> usize {
        let mut counts: HashMap<Digest, [usize; 2]> = HashMap::new();
        for digest in &self.delivered {
            counts.entry(*digest).or_default()[0] += 1;
        }
        for (digest, _) in &self.held {
            counts.entry(*digest).or_default()[1] += 1;
        }
        let is_paired = |place: usize| {
            let at = usize::try_from(shift + signed(place)).unwrap_or(usize::MAX);
            (self.forgotten..self.end()).contains(&at)
        };
        let paired = self.held.iter().enumerate().filter(|(place, _)| is_paired(*place));
        paired.filter(|(_, (digest, _))| counts.get(digest) == Some(&[1, 1])).count()
    }

    /// Leaves the one stream for the other. Without an alignment, all that is held is yet to be
    /// delivered.
    pub(super) fn finish(mut self) -> Rest {
        if self.repetitive {
            self.shifts.clear();
        }
        let [shift] = self.shifts[..] else {
            let ahead = if self.held.is_empty() { self.delivered } else { VecDeque::new() };
            return Rest { ahead, items: self.held.into_iter().map(|(_, item)| item).collect() };
        };
        let repeated = usize::try_from(signed(self.end()) - shift).unwrap_or_default();
        let matched = usize::try_from(shift + signed(self.held.len())).unwrap_or_default();
        let matched = matched.saturating_sub(self.forgotten).min(self.delivered.len());
        self.delivered.drain(..matched);
        let items = self.held.into_iter().skip(repeated).map(|(_, item)| item).collect();
        Rest { ahead: self.delivered, items }
    }

    /// The position after the last that was delivered.
    fn end(&self) -> usize {
        self.forgotten + self.delivered.len()
    }
}

/// What the reader got before its stream was left, and the stream that it has now may yet repeat.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    digests: VecDeque<Digest>,
    /// Whether the reader knows that something may be missing here.
    told: bool,
}

/// What a message is to who got those [`Ahead`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Next,
    /// Delivered already.
    Repeat,
    /// Not the one that has to come: something may be missing before it.
    Torn,
}

impl Ahead {
    pub(super) fn new(digests: VecDeque<Digest>, told: bool) -> Self {
        Self { digests, told }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    pub(super) fn digests(&self) -> &VecDeque<Digest> {
        &self.digests
    }

    /// The reader is told that something may be missing here.
    pub(super) fn told(&mut self) {
        self.told = true;
    }

    pub(super) fn judge(&mut self, digest: Digest) -> Verdict {
        if self.digests.is_empty() {
            return Verdict::Next;
        }
        // What is skipped is missing in the stream, but not to the reader.
        if let Some(at) = self.digests.iter().position(|ahead| *ahead == digest) {
            self.digests.drain(..=at);
            return Verdict::Repeat;
        }
        self.digests.clear();
        if self.told { Verdict::Next } else { Verdict::Torn }
    }
}

#[cfg(test)]
mod tests;
