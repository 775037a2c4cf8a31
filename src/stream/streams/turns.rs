//! Whose turn it is: members that have something to say, in the order in which they said so.
//!
//! # Invariants
//!
//! 1. A member stands in the line at most once.
//! 2. "Is there anybody?" and "wake me when there is" happen under one lock, so no wake-up is lost.
//! 3. Each step takes the same time, however many members there are.
//! 4. The task's waker is woken and dropped without the lock.

use std::mem;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crate::engine::defect::{Defect, seeded};
use crate::engine::sync::{Mutex, register};

/// The line, and the task that serves it.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    line: Line,
    waker: Option<Waker>,
}

impl Turns {
    /// What puts member `key` in the line when it is woken. It does not keep the line alive. One
    /// that outlives its member costs whoever has the key then a look in vain.
    pub(super) fn waker(self: &Arc<Self>, key: usize) -> Waker {
        Arc::new(Turn { key, turns: Arc::downgrade(self) }).into()
    }

    /// Puts `key` last, and wakes the task.
    pub(super) fn call(&self, key: usize) {
        let waker = {
            let mut waiting = self.0.lock();
            if !waiting.line.push(key) {
                return;
            }
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts `key` last; the task is awake.
    pub(super) fn put_back(&self, key: usize) {
        self.0.lock().line.push(key);
    }

    /// Takes out who is first.
    pub(super) fn next(&self) -> Option<usize> {
        self.0.lock().line.pop()
    }

    /// Takes out `key`, wherever it stands.
    pub(super) fn forget(&self, key: usize) {
        self.0.lock().line.remove(key);
    }

    /// Frees what a line of nobody keeps.
    pub(super) fn shrink(&self) {
        let old = mem::take(&mut self.0.lock().line);
        drop(old);
    }

    /// Ready once there is somebody.
    pub(super) fn poll_any(&self, cx: &Context<'_>) -> Poll<()> {
        let replaced = {
            let mut waiting = self.0.lock();
            if waiting.line.first.is_some() {
                return Poll::Ready(());
            }
            if seeded(Defect::ServeInTwoSteps) {
                drop(waiting);
                waiting = self.0.lock();
            }
            register(&mut waiting.waker, cx)
        };
        drop(replaced);
        Poll::Pending
    }
}

/// A member's waker.
struct Turn {
    key: usize,
    turns: Weak<Turns>,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(turns) = self.turns.upgrade() {
            turns.call(self.key);
        }
    }
}

/// Keys in order, each at most once: a list linked both ways, by key.
#[derive(Debug, Default)]
struct Line {
    first: Option<usize>,
    last: Option<usize>,
    /// `None` for a key that does not stand in the line.
    links: Vec<Option<Link>>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: Option<usize>,
    after: Option<usize>,
}

impl Line {
    /// Puts `key` last, unless it stands in the line.
    fn push(&mut self, key: usize) -> bool {
        if self.links.len() <= key {
            self.links.resize(key + 1, None);
        }
        if self.links[key].is_some() {
            return false;
        }
        self.links[key] = Some(Link { before: self.last, after: None });
        match self.last.replace(key) {
            Some(last) => self.at(last, |link| link.after = Some(key)),
            None => self.first = Some(key),
        }
        true
    }

    fn pop(&mut self) -> Option<usize> {
        let key = self.first?;
        self.remove(key);
        Some(key)
    }

    fn remove(&mut self, key: usize) {
        let Some(Link { before, after }) = self.links.get_mut(key).and_then(Option::take) else {
            return;
        };
        match before {
            Some(before) => self.at(before, |link| link.after = after),
            None => self.first = after,
        }
        match after {
            Some(after) => self.at(after, |link| link.before = before),
            None => self.last = before,
        }
    }

    fn at(&mut self, key: usize, change: impl FnOnce(&mut Link)) {
        if let Some(link) = &mut self.links[key] {
            change(link);
        }
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_come_in_the_order_in_which_they_called(
            steps in proptest::collection::vec((0..4_u8, 0..6_usize), 0..99),
        ) {
            let turns = Arc::new(Turns::default());
            let mut model = Vec::new();
            for (step, key) in steps {
                match step {
                    0 | 1 => {
                        turns.waker(key).wake();
                        if !model.contains(&key) {
                            model.push(key);
                        }
                    }
                    2 => {
                        turns.forget(key);
                        model.retain(|other| *other != key);
                    }
                    _ => {
                        let first = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(turns.next(), first);
                    }
                }
            }
            let rest: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
            prop_assert_eq!(rest, model);
        }
    }

    #[test]
    fn a_waker_that_outlives_the_line_does_nothing() {
        let turns = Arc::new(Turns::default());
        let waker = turns.waker(7);
        let gone = Arc::downgrade(&turns);
        drop(turns);
        assert!(gone.upgrade().is_none());
        waker.wake();
    }
}
