//! Replies that are kept for a while.
//!
//! # Invariants
//!
//! 1. For each key, one request is on its way at most: who asks meanwhile waits for the same. It goes on
//!    as long as anybody does, and is cancelled with the last.
//! 2. What is kept weighs no more than it may, and holds no memory but its own: a reply of the server's
//!    may be a part of a large buffer.
//! 3. What the cache does not do right costs a request, and fails none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared as Joined, WeakShared};
use moka::notification::RemovalCause;
use tokio::time::{Instant, timeout_at};

use super::asked::Asked;
use super::config::{NEVER, setters};
use super::defect::{Defect, seeded};
use crate::error::RequestError;
use crate::manager::Reply;
use crate::message::Message;

/// How replies to [cached](super::Call::cached) requests are kept.
///
/// ```
/// use std::time::Duration;
/// use wsmux::requests::CacheConfig;
///
/// let config = CacheConfig::default().ttl(Duration::from_secs(60)).max_bytes(16 * 1024 * 1024);
/// # let _ = config;
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CacheConfig {
    /// The most that is kept, in bytes: keys, replies, and 128 for each. Default 1 MiB. What is asked for
    /// seldom goes first; a reply that is larger is not kept. Zero keeps nothing, and two who ask the
    /// same at once still share the reply.
    pub max_bytes: u64,
    /// How old a reply may be that is given without asking. Default 5 min.
    pub ttl: Duration,
    /// How old a reply may be that is given because asking failed, unless the server itself
    /// [said so](crate::RequestError::Failed). Default 1 h; zero for never.
    pub stale_if_error: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_bytes: 1024 * 1024,
            ttl: Duration::from_secs(300),
            stale_if_error: Duration::from_secs(3600),
        }
    }
}

impl CacheConfig {
    setters! {
        max_bytes: u64,
        ttl: Duration,
        stale_if_error: Duration,
    }
}

/// What a pool's cache has done since it was built, and what it keeps now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CacheStats {
    /// What is kept now weighs so many bytes.
    pub bytes: u64,
    /// Replies that are kept now.
    pub entries: u64,
    /// Replies that were given up for want of room.
    pub evicted: u64,
    /// Requests that were answered without asking.
    pub hits: u64,
    /// Requests that were answered by what another one was asking already.
    pub joined: u64,
    /// Requests that the server was asked.
    pub misses: u64,
    /// Requests that failed and were answered by an old reply.
    pub stale: u64,
}

#[cfg(feature = "prometheus")]
impl CacheStats {
    /// What two caches have counted.
    pub(super) fn add(&mut self, more: &Self) {
        self.bytes += more.bytes;
        self.entries += more.entries;
        self.evicted += more.evicted;
        self.hits += more.hits;
        self.joined += more.joined;
        self.misses += more.misses;
        self.stale += more.stale;
    }
}

/// What a reply is kept by.
pub(super) type Key = Arc<[u8]>;

type Flight = BoxFuture<'static, Asked>;

pub(super) struct Cache {
    config: CacheConfig,
    counts: Arc<Counts>,
    flights: Mutex<HashMap<Key, (u64, WeakShared<Flight>)>>,
    kept: moka::sync::Cache<Key, Arc<Kept>>,
    label: String,
    /// Number of the next flight.
    next: AtomicU64,
}

struct Kept {
    at: Instant,
    reply: Reply,
}

#[derive(Default)]
struct Counts {
    evicted: AtomicU64,
    hits: AtomicU64,
    joined: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
}

/// What one reply costs beside its bytes, roughly.
const OVERHEAD: usize = 128;

impl Cache {
    /// A cache, whose metrics have this label.
    pub(super) fn new(mut config: CacheConfig, label: &str) -> Arc<Self> {
        config.ttl = config.ttl.min(NEVER);
        config.stale_if_error = config.stale_if_error.min(NEVER);
        let counts = Arc::new(Counts::default());
        let (heard, own_label) = (Arc::clone(&counts), label.to_owned());
        let kept = moka::sync::Cache::builder()
            .max_capacity(config.max_bytes)
            .weigher(|key: &Key, kept: &Arc<Kept>| weight(key, &kept.reply))
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    count(&heard.evicted, "ws_request_cache_evictions_total", &own_label);
                }
            })
            .build();
        let (flights, next) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { config, counts, flights, kept, label: label.to_owned(), next })
    }

    /// The reply that is kept by `key`, or what comes of `ask`.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: Key,
        deadline: Instant,
        ask: impl FnOnce() -> Flight,
    ) -> Asked {
        let kept = self.kept.get(&key);
        let age = kept.as_ref().map(|kept| kept.at.elapsed());
        let is_fresh = age.is_some_and(|age| age < self.config.ttl || seeded(Defect::OldIsGiven));
        if let Some(kept) = kept.as_ref().filter(|_| is_fresh) {
            count(&self.counts.hits, "ws_request_cache_hits_total", &self.label);
            return Asked::unmeasured(Ok(kept.reply.clone()));
        }
        let asked = timeout_at(deadline, self.join(key, ask)).await;
        let asked = asked.unwrap_or_else(|_| Asked::unmeasured(Err(RequestError::TimedOut)));
        let Err(error) = &asked.outcome else { return asked };
        let may_be_stale = !matches!(error, RequestError::Failed(_) | RequestError::Overrun)
            || seeded(Defect::RefusalIsCovered);
        // What was kept meanwhile by somebody else is not older.
        let most = self.config.stale_if_error;
        let is_young = age.is_some_and(|age| age < most || seeded(Defect::StaleForEver));
        match kept.filter(|_| may_be_stale && is_young) {
            Some(kept) => {
                count(&self.counts.stale, "ws_request_cache_stale_total", &self.label);
                Asked::unmeasured(Ok(kept.reply.clone()))
            }
            None => asked,
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.kept.run_pending_tasks();
        let get = |count: &AtomicU64| count.load(Relaxed);
        CacheStats {
            bytes: self.kept.weighted_size(),
            entries: self.kept.entry_count(),
            evicted: get(&self.counts.evicted),
            hits: get(&self.counts.hits),
            joined: get(&self.counts.joined),
            misses: get(&self.counts.misses),
            stale: get(&self.counts.stale),
        }
    }

    /// What is on its way already, or is from now on.
    fn join(self: &Arc<Self>, key: Key, ask: impl FnOnce() -> Flight) -> Joined<Flight> {
        let mut flights = self.flights();
        let joined = flights.get(&key).filter(|_| !seeded(Defect::FlightsAreAlone));
        if let Some(flight) = joined.and_then(|(_, flight)| flight.upgrade()) {
            drop(flights);
            count(&self.counts.joined, "ws_request_cache_joined_total", &self.label);
            return flight;
        }
        let number = self.next.fetch_add(1, Relaxed);
        let landing = Landing { cache: Arc::clone(self), key: Arc::clone(&key), number };
        let asking = ask();
        let flight = async move {
            let asked = asking.await;
            if let Ok(reply) = &asked.outcome {
                landing.cache.keep(&landing.key, reply);
            }
            drop(landing);
            asked
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, (number, weak));
        }
        drop(flights);
        count(&self.counts.misses, "ws_request_cache_misses_total", &self.label);
        flight
    }

    fn keep(&self, key: &Key, reply: &Reply) {
        if u64::from(weight(key, reply)) > self.config.max_bytes {
            return;
        }
        let reply = Reply::new(reply.parts().iter().map(own).collect());
        self.kept.insert(Arc::clone(key), Arc::new(Kept { at: Instant::now(), reply }));
        self.kept.run_pending_tasks();
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, (u64, WeakShared<Flight>)>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a flight off the list, whether it has come to its end or was given up.
struct Landing {
    cache: Arc<Cache>,
    key: Key,
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.cache.flights();
        if flights.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            flights.remove(&self.key);
        }
    }
}

/// A copy in memory of its own.
fn own(message: &Message) -> Message {
    match message {
        Message::Text(text) => Message::text(text.as_str().to_owned()),
        Message::Binary(bytes) => Message::Binary(Bytes::copy_from_slice(bytes)),
    }
}

fn weight(key: &Key, reply: &Reply) -> u32 {
    if seeded(Defect::WeightIsIgnored) {
        return 0;
    }
    let bytes = reply.parts().iter().map(|part| part.len() + size_of::<Message>()).sum::<usize>();
    u32::try_from(key.len() + bytes + OVERHEAD).unwrap_or(u32::MAX)
}

fn count(count: &AtomicU64, name: &'static str, label: &str) {
    count.fetch_add(1, Relaxed);
    metrics::counter!(name, "manager" => label.to_owned()).increment(1);
}
