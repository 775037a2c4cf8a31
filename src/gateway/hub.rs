//! What a gateway counts: for `/stats` and `/metrics`.
//!
//! Counters are atomics, added to once per round or per client, never per message and client. Names are
//! in a map under a lock that is taken when a reader comes or goes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::name::StreamName;

/// How many of those that are behind are told.
const LAGGARDS: usize = 20;

/// The books of a gateway.
#[derive(Debug, Default)]
pub(super) struct Hub {
    pub(super) clients: AtomicUsize,
    pub(super) cut_off: AtomicU64,
    pub(super) delivered: AtomicU64,
    /// Of each shard, as of its last look.
    laggards: Mutex<Vec<Vec<Laggard>>>,
    pub(super) missed: AtomicU64,
    pub(super) rounds: AtomicU64,
    pub(super) sse: AtomicUsize,
    pub(super) writes: AtomicU64,
    names: Mutex<HashMap<StreamName, usize>>,
}

/// What a gateway has done, as of now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct HubStats {
    /// Batches that run, or whose results are not read to the end.
    pub batches: usize,
    /// WebSocket clients that are connected.
    pub clients: usize,
    /// Clients that were cut off because they did not keep up, did not answer, or broke the rules.
    pub cut_off: u64,
    /// Messages handed to clients' sockets or queues.
    pub delivered: u64,
    /// The WebSocket clients that are furthest behind, those that wait longest first, and not more than
    /// 20. Looked at 16 times in a
    /// [`ping_interval`](field@super::GatewayConfig::ping_interval).
    pub laggards: Vec<Laggard>,
    /// Messages that slow clients missed, each of which is part of a gap.
    pub missed: u64,
    /// Names that clients read, and how many of them, busiest first.
    pub names: Vec<NameStats>,
    /// Rounds of the shards in which something was delivered.
    pub rounds: u64,
    /// Streams of events that are open.
    pub sse: usize,
    /// Writes to clients' sockets.
    pub writes: u64,
}

/// A client that does not keep up.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Laggard {
    /// Messages that it has missed since it came, each of which is part of a gap.
    pub missed: u64,
    /// How long its socket has taken nothing although something waits.
    pub stuck_for: Duration,
    /// [Whose](super::Visitor::user) it is.
    pub user: Arc<str>,
    /// Bytes that wait for it.
    pub waiting: usize,
}

/// A name that clients read.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NameStats {
    /// The name, as clients know it.
    pub name: StreamName,
    /// How many clients read it, over WebSocket and SSE.
    pub readers: usize,
}

impl Hub {
    pub(super) fn stats(&self) -> HubStats {
        let names = self.lock().iter().map(|(name, readers)| (name.clone(), *readers)).collect();
        let mut names: Vec<(StreamName, usize)> = names;
        names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        HubStats {
            batches: 0, // Counted where they are.
            clients: self.clients.load(Ordering::Relaxed),
            cut_off: self.cut_off.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            laggards: worst(self.laggards_lock().iter().flatten().cloned().collect()),
            missed: self.missed.load(Ordering::Relaxed),
            names: names.into_iter().map(|(name, readers)| NameStats { name, readers }).collect(),
            rounds: self.rounds.load(Ordering::Relaxed),
            sse: self.sse.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }

    /// Counts a reader of a name, until the guard is dropped.
    pub(super) fn reads(self: &Arc<Self>, name: &StreamName) -> Reading {
        *self.lock().entry(name.clone()).or_default() += 1;
        Reading { hub: Arc::clone(self), name: name.clone() }
    }

    /// Counts something that is there, until the guard is dropped.
    pub(super) fn counts(self: &Arc<Self>, what: fn(&Self) -> &AtomicUsize) -> Counted {
        what(self).fetch_add(1, Ordering::Relaxed);
        Counted { hub: Arc::clone(self), what }
    }

    /// A place for the laggards of one more shard.
    pub(super) fn place_for_laggards(&self) -> usize {
        let mut all = self.laggards_lock();
        all.push(Vec::new());
        all.len() - 1
    }

    /// Takes note of a shard's laggards, as far as they are among the worst.
    pub(super) fn tell_laggards(&self, place: usize, laggards: Vec<Laggard>) {
        if let Some(of) = self.laggards_lock().get_mut(place) {
            *of = worst(laggards);
        }
    }

    fn laggards_lock(&self) -> MutexGuard<'_, Vec<Vec<Laggard>>> {
        self.laggards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamName, usize>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that are furthest behind, in that order.
fn worst(mut laggards: Vec<Laggard>) -> Vec<Laggard> {
    let behind = |laggard: &Laggard| Reverse((laggard.stuck_for, laggard.missed, laggard.waiting));
    if laggards.len() > LAGGARDS {
        laggards.select_nth_unstable_by_key(LAGGARDS, behind);
        laggards.truncate(LAGGARDS);
    }
    laggards.sort_by_key(behind);
    laggards
}

/// One reader of one name.
#[derive(Debug)]
pub(super) struct Reading {
    hub: Arc<Hub>,
    name: StreamName,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut names = self.hub.lock();
        if let Some(readers) = names.get_mut(&self.name) {
            *readers -= 1;
            if *readers == 0 {
                names.remove(&self.name);
            }
        }
    }
}

/// One of something.
#[derive(Debug)]
pub(super) struct Counted {
    hub: Arc<Hub>,
    what: fn(&Hub) -> &AtomicUsize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.what)(&self.hub).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_while_they_are_read_and_come_busiest_first() {
        let hub = Arc::new(Hub::default());
        let name = |text: &str| StreamName::try_from(text).unwrap();
        let one = hub.reads(&name("one"));
        let _two = (hub.reads(&name("two")), hub.reads(&name("two")));
        let readers = |hub: &Hub| -> Vec<(String, usize)> {
            hub.stats().names.into_iter().map(|n| (n.name.to_string(), n.readers)).collect()
        };
        assert_eq!(readers(&hub), [("two".to_owned(), 2), ("one".to_owned(), 1)]);
        drop(one);
        assert_eq!(readers(&hub), [("two".to_owned(), 2)]);
    }

    #[test]
    fn what_is_there_is_counted_until_it_goes() {
        let hub = Arc::new(Hub::default());
        let client = hub.counts(|hub| &hub.clients);
        assert_eq!(hub.stats().clients, 1);
        drop(client);
        assert_eq!(hub.stats().clients, 0);
    }

    #[test]
    fn those_that_are_furthest_behind_are_told_of_all_shards_and_not_for_longer_than_they_are() {
        let hub = Hub::default();
        let laggard = |secs, missed| Laggard {
            missed,
            stuck_for: Duration::from_secs(secs),
            user: "ann".into(),
            waiting: 1,
        };
        let told = |hub: &Hub| -> Vec<(u64, u64)> {
            let all = hub.stats().laggards;
            all.iter().map(|one| (one.stuck_for.as_secs(), one.missed)).collect()
        };
        let (one, two) = (hub.place_for_laggards(), hub.place_for_laggards());
        hub.tell_laggards(one, vec![laggard(0, 7), laggard(3, 0)]);
        hub.tell_laggards(two, vec![laggard(0, 8)]);
        assert_eq!(told(&hub), [(3, 0), (0, 8), (0, 7)]);
        hub.tell_laggards(one, Vec::new());
        assert_eq!(told(&hub), [(0, 8)]);
        hub.tell_laggards(two, (0..100).map(|missed| laggard(0, missed)).collect());
        assert_eq!(told(&hub), (80..100).rev().map(|missed| (0, missed)).collect::<Vec<_>>());
    }
}
