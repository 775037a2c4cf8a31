//! What readers must get where sockets are replaced while they work.
//!
//! Which message a stream goes over at is the client's to find, and often more than one way is right.
//! So nothing is owed item by item here. The feed is numbered, each socket brings all of it from its
//! join on, and a reader's items are held to that:
//!
//! 1. With no notice between them, a message is the one after the last.
//! 2. After a gap, it is the first that some socket brought after its join. So a gap where the
//!    stream could have gone on without one is noticed, unless that is where a socket began.
//! 3. A gap is due to the loss of a socket or join, each for one gap only, or says `Rotated` where
//!    another socket was asked for.
//! 4. A stream ends with a reason that the server's side knows of.

use std::collections::BTreeSet;

use super::End;
use super::reading::Item;
use crate::error::{CloseReason, Gap};

/// What happened to a name.
#[derive(Default)]
pub(super) struct Course {
    /// The first messages of joins.
    begins: BTreeSet<u64>,
    /// Why its stream may have ended, and when that came up.
    ends: Vec<End>,
    /// Joins that were lost, by the labels of why; none where only the client knows.
    losses: Vec<Option<&'static str>>,
    /// Whether another socket was ever asked for.
    pub(super) is_moved: bool,
}

/// A reader, and how far it is.
pub(super) struct Follower {
    /// Gaps since the last message.
    gaps: usize,
    is_over: bool,
    last: Option<u64>,
    /// Losses that it has been told of, or that were before its time.
    losses: usize,
    /// Messages since the last one that it lagged over.
    missed: u64,
}

impl Course {
    pub(super) fn begins(&mut self, number: u64) {
        self.begins.insert(number);
    }

    pub(super) fn breaks(&mut self, reason: Option<&'static str>) {
        self.losses.push(reason);
    }

    pub(super) fn may_end(&mut self, end: End) {
        self.ends.push(end);
    }

    /// Whether its stream may have ended.
    pub(super) fn has_ended(&self) -> bool {
        !self.ends.is_empty()
    }

    pub(super) fn follower(&self) -> Follower {
        // A loss that comes to light in this moment may be told after the reader has sat down.
        let losses = self.losses.len();
        Follower { gaps: 0, is_over: false, last: None, losses, missed: 0 }
    }
}

impl Follower {
    pub(super) fn reads(&mut self, item: &Item, course: &Course) -> Result<(), String> {
        match item {
            Item::Message { number: Some(number), .. } => self.message(*number, course),
            Item::Message { number: None, .. } => Err("a message that nobody sent".to_owned()),
            Item::Gap(Gap::Lagged { missed }) => {
                self.missed += missed;
                Ok(())
            }
            Item::Gap(Gap::Reconnected { reason, .. }) => {
                self.gaps += 1;
                self.gap(reason.label(), course)
            }
            Item::Gap(gap) => Err(format!("a gap that nobody made: {gap:?}")),
            Item::Closed(reason) => self.closed(reason, course),
            Item::End if self.is_over => Ok(()),
            Item::End => Err("over, and no reason was given".to_owned()),
            Item::Nothing => Ok(()),
        }
    }

    fn message(&mut self, number: u64, course: &Course) -> Result<(), String> {
        let (gaps, missed) = (std::mem::take(&mut self.gaps), std::mem::take(&mut self.missed));
        let Some(last) = self.last.replace(number) else { return Ok(()) };
        let next = last + missed + 1;
        match (gaps, missed) {
            (0, _) if number < next => Err(format!("message {number} comes again after {last}")),
            (0, _) if number > next => {
                Err(format!("got message {number} after {last}, {missed} lagged over, and no gap"))
            }
            (1.., 0) if !course.begins.contains(&number) => Err(format!(
                "message {number} comes after {last} and a gap, and no socket began with it"
            )),
            _ => Ok(()),
        }
    }

    fn gap(&mut self, told: &'static str, course: &Course) -> Result<(), String> {
        if told == "rotated" {
            return course.is_moved.then_some(()).ok_or_else(|| "nothing was rotated".to_owned());
        }
        let mut untold = course.losses.iter().skip(self.losses);
        match untold.position(|loss| loss.is_none_or(|label| label == told)) {
            Some(at) => {
                self.losses += at + 1;
                Ok(())
            }
            None => Err(format!("a gap because of `{told}`, and no socket was lost by it")),
        }
    }

    fn closed(&mut self, reason: &CloseReason, course: &Course) -> Result<(), String> {
        self.is_over = true;
        let is_known = course.ends.iter().any(|end| match (end, reason) {
            // Which failures count for a stream that has two connections is theirs to say.
            (End::Exhausted(_), CloseReason::RetriesExhausted { .. }) => true,
            (end, reason) => end.is(reason),
        });
        is_known.then_some(()).ok_or_else(|| format!("closed because of `{reason}`, unknown"))
    }
}
