//! Whether a message follows on the one before it.
//!
//! A first message follows on nothing. Numbers that go back are no hole: the feed has begun anew, or
//! repeats itself.

use crate::protocol::Mark;
use crate::protocol::json::{Raw, pick};

/// How the messages of a stream are numbered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// `pu` is the `u` of the one before: a book of futures.
    Chain,
    /// This field rises by one.
    Each(&'static str),
    /// Nothing that can be told.
    None,
    /// From `U` to `u`, and the next `U` is one above: a book of spot.
    Range,
    /// Each message holds all there is.
    Whole,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    last: Option<u64>,
    rule: Rule,
}

/// What is missing before a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hole {
    pub(super) missed: Option<u64>,
}

impl Sequence {
    pub(super) fn new(rule: Rule) -> Self {
        Self { last: None, rule }
    }

    /// What follows, follows on nothing.
    pub(super) fn begin(&mut self) {
        self.last = None;
    }

    /// Judges the next message.
    pub(super) fn step(&mut self, payload: Raw<'_>) -> (Mark, Option<Hole>) {
        let numbers = |keys| pick(payload.as_str(), keys).ok().map(|[a, b]| (number(a), number(b)));
        let (own, hole) = match self.rule {
            Rule::None => return (Mark::default(), None),
            Rule::Whole => return (Mark::default().snapshot(), None),
            Rule::Each(key) => {
                let own = payload.field(key).and_then(Raw::u64);
                let missed = own.zip(self.next()).and_then(|(own, next)| own.checked_sub(next));
                let hole = missed.filter(|missed| *missed > 0);
                (own, hole.map(|missed| Hole { missed: Some(missed) }))
            }
            Rule::Range => {
                let Some((Some(first), own)) = numbers(["U", "u"]) else {
                    return Default::default();
                };
                let is_hole = self.next().is_some_and(|next| first > next);
                (own, is_hole.then_some(Hole { missed: None }))
            }
            Rule::Chain => {
                let Some((Some(before), own)) = numbers(["pu", "u"]) else {
                    return Default::default();
                };
                let is_hole = self.last.is_some_and(|last| before > last);
                (own, is_hole.then_some(Hole { missed: None }))
            }
        };
        let Some(own) = own else { return Default::default() };
        self.last = Some(own);
        (Mark::default().seq(own), hole)
    }

    fn next(&self) -> Option<u64> {
        self.last?.checked_add(1)
    }
}

fn number(value: Option<Raw<'_>>) -> Option<u64> {
    value.and_then(Raw::u64)
}
