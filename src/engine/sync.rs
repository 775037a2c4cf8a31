//! What crosses tasks: a mutex, a signal, a promise and a watched value.
//!
//! Everything that two tasks touch goes through this file, so that the races of the engine are
//! explored on the engine's own code: built with `--cfg wsmux_shuttle`, the primitives below are
//! those of the [shuttle](https://docs.rs/shuttle) scheduler.
//!
//! # Invariants
//!
//! 1. No lock is held while a waker is woken or dropped: both may run anybody's code.
//! 2. "Is there news?" and "wake me when there is" happen under one lock, so no wake-up is lost.

#[cfg(not(wsmux_shuttle))]
use std::sync;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

#[cfg(wsmux_shuttle)]
use shuttle::sync;
use slab::Slab;

use super::defect::{Defect, seeded};

/// A mutex that knows no poison: what it guards here is never left half changed by a panic in a
/// way that matters more than going on.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells one task that there is news. News that nobody has taken yet are one.
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    set: bool,
    waker: Option<Waker>,
}

impl Signal {
    /// There is news.
    pub(crate) fn set(&self) {
        let waker = {
            let mut pending = self.0.lock();
            pending.set = !(seeded(Defect::SignalIsLost) && pending.waker.is_none());
            pending.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the news, or asks to be woken by them. One task polls a signal.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<()> {
        let replaced = {
            let mut pending = self.0.lock();
            if std::mem::take(&mut pending.set) {
                return Poll::Ready(());
            }
            register(&mut pending.waker, cx)
        };
        drop(replaced);
        Poll::Pending
    }
}

/// A value that is given once, to the one task that waits for it.
#[derive(Debug)]
pub(crate) struct Promise<T>(Mutex<Promised<T>>);

#[derive(Debug)]
struct Promised<T> {
    forsaken: bool,
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self(Mutex::new(Promised { forsaken: false, value: None, waker: None }))
    }
}

impl<T> Promise<T> {
    /// Gives the value.
    pub(crate) fn keep(&self, value: T) {
        let (waker, before) = {
            let mut promised = self.0.lock();
            (promised.waker.take(), promised.value.replace(value))
        };
        drop(before);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes the value, or asks to be woken by it.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<T> {
        let replaced = {
            let mut promised = self.0.lock();
            if let Some(value) = promised.value.take() {
                return Poll::Ready(value);
            }
            register(&mut promised.waker, cx)
        };
        drop(replaced);
        Poll::Pending
    }

    /// Has who waits look again, though there is no value.
    pub(crate) fn wake(&self) {
        let waker = self.0.lock().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Nobody waits any more.
    pub(crate) fn forsake(&self) {
        self.0.lock().forsaken = true;
    }

    pub(crate) fn is_forsaken(&self) -> bool {
        self.0.lock().forsaken
    }
}

/// Keeps `slot` at the task's waker, and returns what it replaced.
#[must_use = "dropped after the lock"]
pub(crate) fn register(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}

/// A value that others follow. They see its latest state, not each state it was in.
#[derive(Debug)]
pub(crate) struct Watch<T>(Mutex<Watched<T>>);

#[derive(Debug)]
struct Watched<T> {
    closed: bool,
    value: T,
    version: u64,
    /// Of those that follow it. Most are followed for a moment only.
    wakers: Option<Box<Slab<Option<Waker>>>>,
}

impl<T: Clone> Watch<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Watched { closed: false, value, version: 1, wakers: None }))
    }

    pub(crate) fn get(&self) -> T {
        self.0.lock().value.clone()
    }

    /// Changes the value with `change`, which says whether it did.
    pub(crate) fn update(&self, change: impl FnOnce(&mut T) -> bool) {
        let wakers = {
            let mut watched = self.0.lock();
            if !change(&mut watched.value) {
                return;
            }
            watched.version += 1;
            watched.wakers.as_deref_mut().map(take_wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// The value changes no more.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut watched = self.0.lock();
            watched.closed = true;
            watched.wakers.as_deref_mut().map(take_wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Takes all wakers out, to be woken without the lock.
pub(super) fn take_wakers(wakers: &mut Slab<Option<Waker>>) -> Vec<Waker> {
    wakers.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
}

/// One that follows a [`Watch`], from its present value on.
#[derive(Debug)]
pub(crate) struct Following<T> {
    place: usize,
    seen: u64,
    watch: Arc<Watch<T>>,
}

impl<T> Following<T> {
    pub(crate) fn new(watch: &Arc<Watch<T>>) -> Self {
        let place = watch.0.lock().wakers.get_or_insert_default().insert(None);
        Self { place, seen: 0, watch: Arc::clone(watch) }
    }
}

impl<T: Clone> Following<T> {
    /// The value, whether or not it was seen.
    pub(crate) fn current(&self) -> T {
        self.watch.get()
    }

    /// The value once it differs from what was seen, which is nothing at first. `None` once it
    /// changes no more.
    pub(crate) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let replaced = {
            let mut watched = self.watch.0.lock();
            if watched.version > self.seen {
                self.seen = watched.version;
                return Poll::Ready(Some(watched.value.clone()));
            }
            if watched.closed {
                return Poll::Ready(None);
            }
            watched.wakers.as_mut().and_then(|wakers| register(&mut wakers[self.place], cx))
        };
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Following<T> {
    fn drop(&mut self) {
        let waker = {
            let mut watched = self.watch.0.lock();
            let waker = watched.wakers.as_mut().map(|wakers| wakers.remove(self.place));
            watched.wakers.take_if(|wakers| wakers.is_empty());
            waker
        };
        drop(waker);
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use std::task::Context;

    use futures::task::noop_waker;

    use super::*;

    #[test]
    fn a_signal_keeps_its_news_until_they_are_taken() {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let signal = Signal::default();
        assert!(signal.poll_take(&mut cx).is_pending());
        signal.set();
        signal.set();
        assert!(signal.poll_take(&mut cx).is_ready());
        assert!(signal.poll_take(&mut cx).is_pending());
    }

    #[test]
    fn a_follower_sees_the_present_value_and_then_the_latest() {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let watch = Arc::new(Watch::new(1));
        let mut following = Following::new(&watch);
        assert_eq!(following.poll_changed(&mut cx), Poll::Ready(Some(1)));
        assert!(following.poll_changed(&mut cx).is_pending());
        for value in [2, 3] {
            watch.update(|slot| std::mem::replace(slot, value) != value);
        }
        watch.close();
        assert_eq!(following.poll_changed(&mut cx), Poll::Ready(Some(3)));
        assert_eq!(following.poll_changed(&mut cx), Poll::Ready(None));
    }
}
