//! Who should be where: what a switch and its streams share.
//!
//! # Invariants
//!
//! 1. Neither a source nor a waker is called under the lock: a change writes down where each stream
//!    should be, and wakes them after it.
//! 2. What a stream should do is read without the lock, from its own [`Seat`]. Who parks registers
//!    first and then looks again, so no change is missed.
//! 3. The latest change wins, and each has a number of its own: asking again for what has failed is
//!    a change too.
//! 4. A name is remembered while it has a stream or a side of its own, and no longer.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures::task::AtomicWaker;
use slab::Slab;

use super::report::{MoveError, NameReport, Side, SideReport, SwitchReport};
use crate::compat::source::Source;
use crate::observe::switch_counted;

pub(super) struct Board {
    failed: AtomicU64,
    /// For digests of messages.
    pub(super) keys: RandomState,
    moved: AtomicU64,
    moved_with_gap: AtomicU64,
    new: Box<dyn Source>,
    old: Box<dyn Source>,
    state: Mutex<State>,
}

struct State {
    everyone: Side,
    names: HashMap<Arc<str>, Name>,
    version: u64,
    within: Duration,
}

#[derive(Default)]
struct Name {
    own: Option<Side>,
    seats: Slab<Arc<Seat>>,
}

/// Whom a change concerns.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    /// Everybody, whatever was said of a name before.
    All(Side),
    /// This name goes where all go that have no side of their own.
    Clear(&'a str),
    Name(&'a str, Side),
}

/// Where a stream should be, as of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Aim {
    pub(super) side: Side,
    pub(super) version: u64,
}

/// What the board and one stream know of each other.
struct Seat {
    /// An [`Aim`]: its version, and a bit that is set for the new side.
    aim: AtomicU64,
    failure: Mutex<Option<MoveError>>,
    moving: AtomicBool,
    on_new: AtomicBool,
    waker: AtomicWaker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    fn aim_at(&self, side: Side, version: u64) {
        self.aim.store(version << 1 | u64::from(side == Side::New), Ordering::SeqCst);
    }

    fn side(&self) -> Side {
        if self.on_new.load(Ordering::Relaxed) { Side::New } else { Side::Old }
    }
}

impl Board {
    pub(super) fn new(old: Box<dyn Source>, new: Box<dyn Source>, within: Duration) -> Self {
        let state = State { everyone: Side::Old, names: HashMap::new(), version: 0, within };
        Self {
            failed: AtomicU64::new(0),
            keys: RandomState::new(),
            moved: AtomicU64::new(0),
            moved_with_gap: AtomicU64::new(0),
            new,
            old,
            state: Mutex::new(state),
        }
    }

    pub(super) fn source(&self, side: Side) -> &dyn Source {
        match side {
            Side::Old => &*self.old,
            Side::New => &*self.new,
        }
    }

    pub(super) fn set_within(&self, within: Duration) {
        lock(&self.state).within = within;
    }

    pub(super) fn change(&self, change: Change<'_>) {
        let concerned: Vec<Arc<Seat>> = {
            let mut state = lock(&self.state);
            state.version += 1;
            match change {
                Change::All(side) => state.aim_all(side),
                Change::Clear(name) => state.aim_name(name, None),
                Change::Name(name, side) => state.aim_name(name, Some(side)),
            }
        };
        for seat in concerned {
            seat.waker.wake();
        }
    }

    pub(super) fn wanted(&self, name: &str) -> Side {
        lock(&self.state).wanted(name)
    }

    pub(super) fn report(&self) -> SwitchReport {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let state = lock(&self.state);
        let with_streams = state.names.iter().filter(|(_, name)| !name.seats.is_empty());
        let mut names: Vec<_> =
            with_streams.map(|(name, entry)| entry.report(name, state.everyone)).collect();
        let wanted = state.everyone;
        drop(state);
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let on_side = |on: fn(&NameReport) -> usize| SideReport {
            names: names.iter().filter(|name| on(name) > 0).count(),
            streams: names.iter().map(on).sum(),
        };
        SwitchReport {
            failed: count(&self.failed),
            moved: count(&self.moved),
            moved_with_gap: count(&self.moved_with_gap),
            moving: names.iter().map(|name| name.moving).sum(),
            new: on_side(|name| name.new),
            old: on_side(|name| name.old),
            names,
            wanted,
        }
    }
}

impl State {
    fn wanted(&self, name: &str) -> Side {
        self.names.get(name).and_then(|name| name.own).unwrap_or(self.everyone)
    }

    fn aim_all(&mut self, side: Side) -> Vec<Arc<Seat>> {
        self.everyone = side;
        self.names.retain(|_, name| {
            name.own = None;
            !name.seats.is_empty()
        });
        let seats = self.names.values().flat_map(|name| &name.seats);
        seats.map(|(_, seat)| aimed(seat, side, self.version)).collect()
    }

    fn aim_name(&mut self, name: &str, own: Option<Side>) -> Vec<Arc<Seat>> {
        if own.is_some() && !self.names.contains_key(name) {
            self.names.insert(name.into(), Name::default());
        }
        let Some(entry) = self.names.get_mut(name) else { return Vec::new() };
        entry.own = own;
        let side = own.unwrap_or(self.everyone);
        let seats = entry.seats.iter();
        let seats = seats.map(|(_, seat)| aimed(seat, side, self.version)).collect();
        if own.is_none() && entry.seats.is_empty() {
            self.names.remove(name);
        }
        seats
    }
}

fn aimed(seat: &Arc<Seat>, side: Side, version: u64) -> Arc<Seat> {
    seat.aim_at(side, version);
    Arc::clone(seat)
}

impl Name {
    fn report(&self, name: &str, everyone: Side) -> NameReport {
        let seats = || self.seats.iter().map(|(_, seat)| seat);
        let new = seats().filter(|seat| seat.side() == Side::New).count();
        NameReport {
            last_failure: seats().find_map(|seat| lock(&seat.failure).clone()),
            moving: seats().filter(|seat| seat.moving.load(Ordering::Relaxed)).count(),
            name: name.to_owned(),
            new,
            old: self.seats.len() - new,
            wanted: self.own.unwrap_or(everyone),
        }
    }
}

/// A stream's place on the board, given back on drop.
pub(super) struct Place {
    pub(super) board: Arc<Board>,
    key: usize,
    pub(super) name: Arc<str>,
    seat: Arc<Seat>,
    /// How long messages may be held for an alignment.
    pub(super) within: Duration,
}

impl Place {
    pub(super) fn take(board: &Arc<Board>, name: &str) -> Self {
        let seat = Arc::new(Seat {
            aim: AtomicU64::new(0),
            failure: Mutex::new(None),
            moving: AtomicBool::new(false),
            on_new: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut state = lock(&board.state);
        let side = state.wanted(name);
        seat.aim_at(side, state.version);
        seat.on_new.store(side == Side::New, Ordering::Relaxed);
        let name = match state.names.get_key_value(name) {
            Some((name, _)) => Arc::clone(name),
            None => name.into(),
        };
        let key = state.names.entry(Arc::clone(&name)).or_default().seats.insert(Arc::clone(&seat));
        let within = state.within;
        drop(state);
        Self { board: Arc::clone(board), key, name, seat, within }
    }

    pub(super) fn aim(&self) -> Aim {
        let aim = self.seat.aim.load(Ordering::SeqCst);
        let side = if aim & 1 == 1 { Side::New } else { Side::Old };
        Aim { side, version: aim >> 1 }
    }

    /// Has the task woken by the next change. Look at [`aim`](Self::aim) again before sleeping.
    pub(super) fn park(&self, cx: &Context<'_>) {
        self.seat.waker.register(cx.waker());
    }

    pub(super) fn moving(&self, moving: bool) {
        self.seat.moving.store(moving, Ordering::Relaxed);
        if moving {
            self.note(None);
        }
    }

    pub(super) fn moved(&self, to: Side, with_gap: bool) {
        self.seat.moving.store(false, Ordering::Relaxed);
        self.seat.on_new.store(to == Side::New, Ordering::Relaxed);
        self.note(None);
        let count = if with_gap { &self.board.moved_with_gap } else { &self.board.moved };
        count.fetch_add(1, Ordering::Relaxed);
        switch_counted(to.label(), if with_gap { "gap" } else { "seamless" });
        tracing::info!(name = &*self.name, %to, with_gap, "stream moved");
    }

    pub(super) fn failed(&self, to: Side, error: MoveError) {
        self.seat.moving.store(false, Ordering::Relaxed);
        self.board.failed.fetch_add(1, Ordering::Relaxed);
        switch_counted(to.label(), "failed");
        tracing::warn!(name = &*self.name, %to, %error, "stream not moved, and stays where it is");
        self.note(Some(error));
    }

    /// The stream is where it should be again, without having moved.
    pub(super) fn stays(&self) {
        self.moving(false);
        self.note(None);
    }

    fn note(&self, failure: Option<MoveError>) {
        let old = std::mem::replace(&mut *lock(&self.seat.failure), failure);
        drop(old);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = {
            let mut state = lock(&self.board.state);
            let Some(name) = state.names.get_mut(&self.name) else { return };
            let seat = name.seats.remove(self.key);
            if name.seats.is_empty() && name.own.is_none() {
                state.names.remove(&self.name);
            }
            seat
        };
        drop(seat); // With its waker, not under the lock.
    }
}
