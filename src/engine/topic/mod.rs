//! One stream's messages on their way to its readers.
//!
//! A topic keeps the latest messages in a ring of batches, and its notices (gaps, the end) beside
//! the ring, each at its place. A connection, its [`source`], publishes; each reader has a cursor and
//! walks along at its own pace. A reader takes the lock once per batch, not per message, and the
//! publisher wakes whoever is parked once per batch.
//!
//! # Invariants
//!
//! 1. A reader gets each message from its joining on, in order and once, or a gap in its place.
//! 2. The ring holds the messages `first .. next`: at most `buffer` of them and at most
//!    `buffer_bytes` bytes, but always the latest; and none that all readers have taken. So a reader
//!    costs the topic nothing, and a stuck one nobody.
//! 3. A notice stands between two batches. Lag never overwrites one: notices that fall into one lag
//!    come as one behind it, and `missed` counts messages only.
//! 4. A reader is told of a break if and only if it was there before it.
//! 5. A topic's end comes last, once per reader, whenever the reader comes to it.
//! 6. The latest message is kept as the topic's own, whoever reads or has read it: in the ring, or
//!    beside it once it has left the ring, where it counts towards neither bound. A reader that
//!    joins with `replay_latest` gets it first, marked and once. It is before that reader's joining
//!    on, and so neither lag nor gaps know of it.
//! 7. While a topic is handed over, its readers see one feed: each message once and in order, or a
//!    gap. What is not known to have been delivered is never dropped.

mod handover;
mod reader;
mod ring;
mod source;

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use self::ring::Ring;
pub(crate) use self::ring::{Seen, Woken};
use super::outgoing::Outgoing;
use super::small::Seldom;
use super::sync::{Mutex, Watch};
use crate::batch::Entry;
use crate::config::StreamConfig;
use crate::error::Gap;
use crate::name::StreamName;
use crate::observe::{ConnectionId, Delays, Latency, Metrics, Series, Status};

pub(crate) use self::handover::Parcel;
pub(crate) use self::reader::{Next, Reader};
pub(crate) use self::source::{Moved, Reviewed, Role};

/// One stream. Its identity is its `Arc`'s: a stream closed and opened again is another topic.
#[derive(Debug)]
pub(crate) struct Topic {
    meters: Mutex<Seldom<Weak<Meter>>>,
    metrics: Arc<Metrics>,
    pub(crate) name: StreamName,
    /// What the program itself sends on the stream.
    pub(crate) outgoing: Arc<Outgoing>,
    ring: Mutex<Ring>,
    /// Where it is counted by itself, if it is to be.
    series: Option<Arc<Series>>,
    pub(crate) settings: Arc<StreamConfig>,
    status: Arc<Watch<Status>>,
}

/// What a reader measures the age of its messages with.
pub(crate) type Meter = Mutex<Delays>;

impl Topic {
    /// A topic whose source is connection `source`.
    pub(crate) fn new(
        name: StreamName,
        source: ConnectionId,
        settings: impl Into<Arc<StreamConfig>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let settings = settings.into();
        let status = Status::Connecting { attempt: 1 };
        metrics.stream_began(&status);
        Self {
            meters: Mutex::default(),
            series: metrics.series(&name),
            metrics,
            outgoing: Outgoing::new(name.clone(), settings.send_queue),
            name,
            ring: Mutex::new(Ring::new(source)),
            settings,
            status: Arc::new(Watch::new(status)),
        }
    }

    /// A reader of everything that is published from now on.
    pub(crate) fn read(self: &Arc<Self>) -> Reader {
        Reader::new(self)
    }

    /// What `read` makes of the latest message, if there was one.
    pub(crate) fn latest<T>(&self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let batch = self.ring.lock().latest().map(Arc::clone)?;
        Some(read(&Entry::last(&batch)?))
    }

    /// Counts a gap that somebody is told of.
    pub(crate) fn counted(&self, gap: &Gap) {
        self.metrics.gap(gap, self.series.as_deref());
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.ring.lock().closed.is_some()
    }

    pub(crate) fn status(&self) -> &Arc<Watch<Status>> {
        &self.status
    }

    pub(crate) fn look(&self) -> Seen {
        let ring = self.ring.lock();
        let lag = ring.slowest().map_or(0, |at| ring.next.saturating_sub(at));
        let (down_since, unread_since) = (ring.down_since(), ring.unread_since());
        let last_message = ring.latest().map(|batch| batch.received_at);
        Seen { down_since, facts: ring.facts.clone(), lag, last_message, unread_since }
    }

    /// Has `meter` told of by [`latency`](Self::latency) for as long as it lives.
    pub(crate) fn measured_by(&self, meter: &Arc<Meter>) {
        let mut meters = self.meters.lock();
        meters.retain(|meter| meter.strong_count() > 0);
        meters.push(Arc::downgrade(meter));
    }

    /// What the meter with the highest latency says.
    pub(crate) fn latency(&self, now: Instant) -> Option<Latency> {
        let meters: Vec<_> = self.meters.lock().iter().filter_map(Weak::upgrade).collect();
        let latencies = meters.iter().filter_map(|meter| meter.lock().latency(now));
        latencies.max_by_key(|latency| latency.p99)
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests;
