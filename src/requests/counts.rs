//! What a pool has counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::RequestError;

#[derive(Debug, Default)]
pub(super) struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    moved: AtomicU64,
    resent: AtomicU64,
    timed_out: AtomicU64,
    unknown: AtomicU64,
    unsent: AtomicU64,
    /// Requests that wait for their place now.
    waiting: AtomicU64,
}

/// What a [`RequestPool`](super::RequestPool) has done since it was built, and what is now. Each figure
/// is as of one moment, all of them together are not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Requests that got their whole reply.
    pub answered: u64,
    /// How many connections a batch uses now.
    pub batch_connections: usize,
    /// How many requests of a batch are in flight at once now: see
    /// [`PoolConfig::batch_bounds`](super::PoolConfig).
    pub batch_size: usize,
    /// Requests that failed by the server's word, or whose replies grew too long.
    pub failed: u64,
    /// Requests that are on a connection now, or wait for it to open.
    pub in_flight: usize,
    /// How often a request went to another connection, as its own failed before it was written.
    pub moved: u64,
    /// Connections that are open now, idle ones included.
    pub open: usize,
    /// Connections that are opening now, or wait before they try again.
    pub opening: usize,
    /// How often an [idempotent](super::Call::idempotent) request was made again.
    pub resent: u64,
    /// Requests whose replies did not come in time.
    pub timed_out: u64,
    /// Requests whose connection broke before the reply was there.
    pub unknown: u64,
    /// Requests of which nothing was written.
    pub unsent: u64,
    /// Requests that wait for a place now: all connections are full.
    pub waiting: u64,
}

impl Counts {
    pub(super) fn ended(&self, outcome: Result<(), &RequestError>) {
        let count = match outcome {
            Ok(()) => &self.answered,
            Err(RequestError::TimedOut) => &self.timed_out,
            Err(RequestError::Unknown) => &self.unknown,
            Err(e) if e.is_unsent() => &self.unsent,
            Err(_) => &self.failed,
        };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn moved(&self) {
        self.moved.fetch_add(1, Relaxed);
    }

    pub(super) fn resent(&self) {
        self.resent.fetch_add(1, Relaxed);
    }

    /// Somebody waits for a place, for as long as what is returned is kept.
    pub(super) fn wait(&self) -> impl Drop + '_ {
        struct Waits<'a>(&'a AtomicU64);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.waiting.fetch_add(1, Relaxed);
        Waits(&self.waiting)
    }

    pub(super) fn read(
        &self,
        in_flight: usize,
        (open, opening): (usize, usize),
        (batch_size, batch_connections): (usize, usize),
    ) -> PoolStats {
        let get = |count: &AtomicU64| count.load(Relaxed);
        PoolStats {
            answered: get(&self.answered),
            batch_connections,
            batch_size,
            failed: get(&self.failed),
            in_flight,
            moved: get(&self.moved),
            open,
            opening,
            resent: get(&self.resent),
            timed_out: get(&self.timed_out),
            unknown: get(&self.unknown),
            unsent: get(&self.unsent),
            waiting: get(&self.waiting),
        }
    }
}

#[cfg(feature = "prometheus")]
impl PoolStats {
    /// What two pools have counted.
    pub(super) fn add(&mut self, more: &Self) {
        self.answered += more.answered;
        self.batch_connections += more.batch_connections;
        self.batch_size += more.batch_size;
        self.failed += more.failed;
        self.in_flight += more.in_flight;
        self.moved += more.moved;
        self.open += more.open;
        self.opening += more.opening;
        self.resent += more.resent;
        self.timed_out += more.timed_out;
        self.unknown += more.unknown;
        self.unsent += more.unsent;
        self.waiting += more.waiting;
    }
}
