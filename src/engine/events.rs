//! A bounded log that any number of readers follow.
//!
//! It keeps the latest [`CAPACITY`] entries; a reader that falls further behind misses the oldest
//! and is told how many. Without readers, nothing is kept.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::sync::{Mutex, register, take_wakers};

const CAPACITY: usize = 1024;

#[derive(Debug)]
pub(crate) struct Log<T>(Mutex<Entries<T>>);

#[derive(Debug)]
struct Entries<T> {
    closed: bool,
    entries: VecDeque<T>,
    /// Position of the next entry.
    next: u64,
    wakers: Slab<Option<Waker>>,
}

/// One that reads a [`Log`].
#[derive(Debug)]
pub(crate) struct Place {
    next: u64,
    place: usize,
}

impl<T: Clone> Log<T> {
    pub(crate) fn new() -> Self {
        let (entries, wakers) = (VecDeque::new(), Slab::new());
        Self(Mutex::new(Entries { closed: false, entries, next: 0, wakers }))
    }

    /// Appends what `entry` makes, if anybody reads.
    pub(crate) fn push(&self, entry: impl FnOnce() -> T) {
        if self.0.lock().wakers.is_empty() {
            return;
        }
        let entry = entry();
        let (old, wakers) = {
            let mut log = self.0.lock();
            let full = log.entries.len() >= CAPACITY;
            let old = if full { log.entries.pop_front() } else { None };
            log.entries.push_back(entry);
            log.next += 1;
            (old, take_wakers(&mut log.wakers))
        };
        drop(old);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Nothing is appended any more.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut log = self.0.lock();
            log.closed = true;
            take_wakers(&mut log.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn follow(&self) -> Place {
        let mut log = self.0.lock();
        Place { next: log.next, place: log.wakers.insert(None) }
    }

    pub(crate) fn unfollow(&self, place: &Place) {
        let (waker, entries) = {
            let mut log = self.0.lock();
            let waker = log.wakers.remove(place.place);
            let unread = log.wakers.is_empty();
            (waker, if unread { std::mem::take(&mut log.entries) } else { VecDeque::new() })
        };
        drop((waker, entries));
    }

    /// The next entry and how many were missed before it; `None` after the last.
    pub(crate) fn poll_next(
        &self,
        place: &mut Place,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(u64, T)>> {
        let replaced = {
            let mut log = self.0.lock();
            let first = log.next - log.entries.len() as u64;
            let missed = first.saturating_sub(place.next);
            let at = place.next.max(first);
            if let Some(entry) = log.entries.get((at - first) as usize) {
                place.next = at + 1;
                return Poll::Ready(Some((missed, entry.clone())));
            }
            if log.closed {
                return Poll::Ready(None);
            }
            register(&mut log.wakers[place.place], cx)
        };
        drop(replaced);
        Poll::Pending
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use futures::task::noop_waker;

    use super::*;

    #[test]
    fn a_reader_that_falls_behind_is_told_how_much_it_missed() {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let log = Log::new();
        log.push(|| unreachable!("nobody reads"));
        let mut place = log.follow();
        assert!(log.poll_next(&mut place, &mut cx).is_pending());
        (0..CAPACITY + 3).for_each(|i| log.push(|| i));
        assert_eq!(log.poll_next(&mut place, &mut cx), Poll::Ready(Some((3, 3))));
        assert_eq!(log.poll_next(&mut place, &mut cx), Poll::Ready(Some((0, 4))));
        log.close();
        let rest = std::iter::from_fn(|| match log.poll_next(&mut place, &mut cx) {
            Poll::Ready(next) => next,
            Poll::Pending => unreachable!("closed"),
        });
        assert_eq!(rest.count(), CAPACITY - 2);
    }
}
