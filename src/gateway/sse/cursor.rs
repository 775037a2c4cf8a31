//! Where a reader is in the events of one name.

use std::any::Any;
use std::sync::Arc;

use tokio::sync::watch;

use crate::gateway::event::{Event, Place};
use crate::gateway::hub::Reading;
use crate::gateway::numbers::Numbers;
use crate::gateway::tail::{Next, Tail};

/// One reader of one name.
#[derive(Debug)]
pub(super) struct Cursor {
    /// It has all up to that number.
    after: u64,
    changes: watch::Receiver<()>,
    /// Given back when it is not read any more.
    held: Option<Box<dyn Any + Send + Sync>>,
    /// Whether nothing comes any more.
    pub(super) is_done: bool,
    /// What comes next, and its number, if it was looked for.
    next: Option<(u64, Arc<Event>)>,
    /// Whether what comes next is that something is missing that no number tells of.
    pub(super) owes_gap: bool,
    _reading: Reading,
    pub(super) tail: Arc<Tail>,
    /// Of the visitor's rights, when they were looked at.
    pub(super) version: u64,
}

/// How somebody comes to read a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// Again, after that place; `None` where it cannot be told.
    Again(Option<Place>),
    First,
}

impl Cursor {
    /// A reader begins with what comes from now on, or with what it has missed, or is told that this cannot be
    /// had.
    pub(super) fn new(
        (tail, changes): (Arc<Tail>, watch::Receiver<()>),
        start: Start,
        (held, reading): (Box<dyn Any + Send + Sync>, Reading),
        version: u64,
        numbers: &Numbers,
    ) -> Self {
        let name = tail.name().as_str();
        let (after, first, owes_gap) = match start {
            Start::Again(Some(place)) if tail.has_all_after(place) => (place.number, None, false),
            Start::Again(_) => (numbers.fresh(), Some(Event::replayed(name)), true),
            Start::First => {
                let (after, status) = (numbers.fresh(), tail.status());
                (after, (!status.is_empty()).then(|| Event::status(name, status)), false)
            }
        };
        let next = first.map(|first| (after, Arc::new(first)));
        let (held, is_done) = (Some(held), false);
        Self { after, changes, held, is_done, next, owes_gap, _reading: reading, tail, version }
    }

    /// Goes on in another tail of the same name, which comes earlier or later: what lies between, if anything,
    /// is missing, or comes again.
    pub(super) fn go_over(
        &mut self,
        (tail, changes): (Arc<Tail>, watch::Receiver<()>),
        numbers: &Numbers,
    ) {
        self.after = numbers.fresh();
        self.next = Some((self.after, Arc::new(Event::replayed(tail.name().as_str()))));
        (self.tail, self.changes, self.owes_gap) = (tail, changes, true);
    }

    /// The number of what comes next, if it is no later than `upto`.
    pub(super) fn due(&mut self, upto: u64) -> Option<u64> {
        if self.is_done {
            return None;
        }
        if self.next.is_none() {
            self.next = match self.tail.after(self.after) {
                Next::Event(number, event) => Some((number, event)),
                Next::Missed(number) => {
                    Some((number, Arc::new(Event::replayed(self.tail.name().as_str()))))
                }
                Next::Ended => {
                    self.finish();
                    None
                }
                Next::Nothing => None,
            };
        }
        self.next.as_ref().map(|(number, _)| *number).filter(|number| *number <= upto)
    }

    /// Takes what is due.
    pub(super) fn take(&mut self) -> Option<(Place, Arc<Event>)> {
        let (number, event) = self.next.take()?;
        (self.after, self.owes_gap) = (number, false);
        Some((self.tail.place(number), event))
    }

    /// Nothing comes any more.
    pub(super) fn finish(&mut self) {
        self.is_done = true;
        self.held = None;
    }

    /// What comes from now on wakes it.
    pub(super) fn look(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Until there may be more. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let _ = self.changes.changed().await;
    }
}
