//! What a topic keeps: its latest messages, and its notices beside them.
//!
//! The invariants are those of the topic; this file holds the second, the third and the sixth.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::handover::{Ahead, Handover};
use crate::batch::Batch;
use crate::config::StreamConfig;
use crate::engine::moment::Moment;
use crate::error::{CloseReason, Gap};
use crate::message::Pack;
use crate::observe::ConnectionId;
use crate::protocol::DisconnectReason;
use crate::transport::TransportError;

/// Notices kept for readers that have not come to them. More are merged, see [`Ring::trim`].
pub(super) const MAX_NOTICES: usize = 64;

/// The latest message is copied out of its read buffer if it is not larger.
const COPIED: usize = 1024;

/// Losses of its source that a topic remembers.
pub(super) const MAX_LOSSES: usize = 16;

#[derive(Debug)]
pub(super) struct Ring {
    pub(super) batches: VecDeque<Arc<Batch>>,
    /// Position of the oldest message kept, and of the next to come.
    pub(super) first: u64,
    pub(super) next: u64,
    /// Bytes of the messages `first .. next`.
    pub(super) bytes: usize,
    /// The latest message, once it is not in `batches` any more.
    pub(super) kept: Option<Arc<Batch>>,
    pub(super) notices: VecDeque<Notice>,
    /// How many notices were merged into the one behind them: the index of the first that is left.
    pub(super) notices_gone: u64,
    /// What the source has yet to bring again, after a handover.
    pub(super) ahead: Option<Box<Ahead>>,
    /// The break that no join has mended yet.
    pub(super) broken: Option<Box<Break>>,
    pub(super) closed: Option<Box<CloseReason>>,
    pub(super) readers: Slab<Parked>,
    /// The number of the next reader to join.
    pub(super) next_reader: u64,
    pub(super) facts: Facts,
    /// The handover that is under way.
    pub(super) handover: Option<Box<Handover>>,
    /// The feed's own number of the latest message, if no gap has followed on it.
    pub(super) last_seq: Option<u64>,
    /// The connection whose messages are published.
    pub(super) source: ConnectionId,
}

/// What [`StreamInfo`](crate::StreamInfo) tells of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) attempt: u32,
    pub(crate) bytes: u64,
    pub(crate) gaps: u64,
    pub(crate) joined_at: Option<Moment>,
    pub(crate) lagged: u64,
    pub(crate) last_error: Option<Arc<TransportError>>,
    pub(crate) losses: Option<Box<Losses>>,
    pub(crate) messages: u64,
    pub(crate) opened_at: Moment,
}

/// When the source was lost, the latest few times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses(VecDeque<Moment>);

/// What a topic is found to be at a look at it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) down_since: Option<Instant>,
    pub(crate) facts: Facts,
    /// How far the slowest reader is behind.
    pub(crate) lag: u64,
    /// When the latest message came.
    pub(crate) last_message: Option<Instant>,
    pub(crate) unread_since: Option<Instant>,
}

impl Facts {
    pub(super) fn new() -> Self {
        Self {
            attempt: 1,
            bytes: 0,
            gaps: 0,
            joined_at: None,
            lagged: 0,
            last_error: None,
            losses: None,
            messages: 0,
            opened_at: Instant::now().into(),
        }
    }

    /// When the source was lost, the latest few times.
    pub(crate) fn losses(&self) -> impl Iterator<Item = Instant> {
        self.losses.iter().flat_map(|losses| &losses.0).map(|at| at.at())
    }
}

#[derive(Debug)]
pub(super) struct Notice {
    /// Position of the message that it stands before.
    pub(super) at: u64,
    pub(super) gap: Gap,
    /// Readers of this number and above have joined after what it tells of.
    pub(super) below: u64,
}

#[derive(Debug)]
pub(super) struct Break {
    pub(super) below: u64,
    pub(super) reason: DisconnectReason,
    pub(super) since: Instant,
}

/// What a topic knows of a reader.
#[derive(Debug)]
pub(super) struct Parked {
    /// The reader's cursor, as far as it has told.
    pub(super) at: Arc<AtomicU64>,
    pub(super) waker: Option<Waker>,
}

impl Ring {
    pub(super) fn new(source: ConnectionId) -> Self {
        Self {
            batches: VecDeque::new(),
            first: 0,
            next: 0,
            bytes: 0,
            kept: None,
            notices: VecDeque::new(),
            notices_gone: 0,
            ahead: None,
            broken: None,
            closed: None,
            readers: Slab::with_capacity(1),
            next_reader: 0,
            facts: Facts::new(),
            handover: None,
            last_seq: None,
            source,
        }
    }

    /// The source is lost.
    pub(super) fn lost(&mut self, since: Instant) {
        let Losses(losses) = &mut **self.facts.losses.get_or_insert_default();
        if losses.len() == MAX_LOSSES {
            losses.pop_front();
        }
        losses.push_back(since.into());
    }

    /// The position of the slowest reader, if there is a reader.
    pub(super) fn slowest(&self) -> Option<u64> {
        self.readers.iter().map(|(_, reader)| reader.at.load(Relaxed)).min()
    }

    /// When the oldest message came that is kept for a reader.
    pub(super) fn unread_since(&self) -> Option<Instant> {
        let at = self.slowest()?.max(self.first);
        self.batch_at(at).map(|batch| batch.received_at)
    }

    /// Since when it has had no source.
    pub(super) fn down_since(&self) -> Option<Instant> {
        let opened_at = self.facts.opened_at.at();
        let since = self.broken.as_ref().map_or(opened_at, |broken| broken.since);
        self.facts.joined_at.is_none().then_some(since)
    }

    /// Appends a batch. What falls out of the ring is to be dropped without the lock.
    pub(super) fn push(
        &mut self,
        messages: Pack,
        now: Instant,
        settings: &StreamConfig,
        evicted: &mut Evicted,
    ) {
        let bytes = messages.bytes();
        let batch = Batch::new(self.next, messages, now);
        self.facts.messages += batch.messages.len() as u64;
        self.facts.bytes += bytes as u64;
        self.next = batch.end();
        self.bytes += bytes;
        self.batches.push_back(Arc::new(batch));
        self.trim(settings, evicted);
        if !self.batches.is_empty() {
            evicted.extend(self.kept.take()); // What is latest is in the ring again.
        }
    }

    /// Puts `gap` here for the readers below a number: by default, all that there are.
    pub(super) fn note(
        &mut self,
        gap: Gap,
        below: Option<u64>,
        settings: &StreamConfig,
        evicted: &mut Evicted,
    ) {
        self.facts.gaps += 1;
        let (at, below) = (self.next, below.unwrap_or(self.next_reader));
        if !self.readers.is_empty() {
            self.notices.push_back(Notice { at, gap, below });
        }
        self.trim(settings, evicted);
    }

    /// Keeps the ring within its bounds.
    pub(super) fn trim(&mut self, settings: &StreamConfig, evicted: &mut Evicted) {
        if self.readers.is_empty() {
            self.forget_all(evicted);
            return;
        }
        while self.notices.len() > MAX_NOTICES {
            self.merge_oldest_notices(evicted);
        }
        let oldest = self.next.saturating_sub(settings.buffer as u64);
        // What all have taken goes too: it would only keep the buffers it was read into from reuse.
        self.evict_to(oldest.max(self.slowest().unwrap_or(0)), evicted);
        while self.bytes > settings.buffer_bytes && self.first + 1 < self.next {
            self.evict_to(self.first + 1, evicted);
        }
    }

    /// With nobody to read it, nothing is kept.
    pub(super) fn forget_all(&mut self, evicted: &mut Evicted) {
        if let Some(last) = self.batches.back() {
            evicted.extend(keep(&mut self.kept, last));
        }
        evicted.extend(self.batches.drain(..));
        self.notices.clear();
        self.first = self.next;
        self.bytes = 0;
    }

    /// Lets go of messages before `position`.
    pub(super) fn evict_to(&mut self, position: u64, evicted: &mut Evicted) {
        while self.first < position {
            let Some(batch) = self.batches.front() else { return };
            let end = batch.end().min(position);
            self.bytes -= if (self.first, end) == (batch.first, batch.end()) {
                batch.messages.bytes()
            } else {
                let range = (self.first - batch.first) as usize..(end - batch.first) as usize;
                batch.messages.bytes_in(range)
            };
            self.first = end;
            if end == batch.end() {
                if end == self.next {
                    evicted.extend(keep(&mut self.kept, batch));
                }
                evicted.extend(self.batches.pop_front());
            }
        }
    }

    /// Makes one notice of the oldest two. The messages between them go too, so that a reader that
    /// has come to neither lags over both, and finds what is left of them in its place.
    pub(super) fn merge_oldest_notices(&mut self, evicted: &mut Evicted) {
        let Some(oldest) = self.notices.pop_front() else { return };
        self.notices_gone += 1;
        if let Some(next) = self.notices.front_mut() {
            next.gap = merged(oldest.gap, next.gap.clone());
            next.below = next.below.max(oldest.below);
            let at = next.at;
            self.evict_to(at, evicted);
        }
    }

    /// The next notice for `reader`, if it stands at or before `position`.
    pub(super) fn next_notice(&self, reader: &mut Cursor<'_>, position: u64) -> Option<Gap> {
        *reader.notice = (*reader.notice).max(self.notices_gone);
        while let Some(notice) = self.notices.get((*reader.notice - self.notices_gone) as usize) {
            if notice.at > position {
                return None;
            }
            *reader.notice += 1;
            if reader.number < notice.below {
                return Some(notice.gap.clone());
            }
        }
        None
    }

    /// A batch whose last message is the stream's latest.
    pub(super) fn latest(&self) -> Option<&Arc<Batch>> {
        self.batches.back().or(self.kept.as_ref())
    }

    pub(super) fn batch_at(&self, position: u64) -> Option<&Arc<Batch>> {
        // Who keeps up with the source is in the last one.
        if let Some(last) = self.batches.back().filter(|last| last.first <= position) {
            return Some(last).filter(|last| position < last.end());
        }
        let index = self.batches.partition_point(|batch| batch.end() <= position);
        self.batches.get(index)
    }

    pub(super) fn take_wakers(&mut self, woken: &mut Woken) {
        let most = woken.len() + self.readers.len();
        for waker in self.readers.iter_mut().filter_map(|(_, reader)| reader.waker.take()) {
            if woken.len() == woken.capacity() {
                woken.grow(most); // Once: all of many readers are often parked.
            }
            woken.push(waker);
        }
    }
}

/// What fell out of a ring. Where readers keep up, that is one batch for each that comes.
pub(super) type Evicted = SmallVec<[Arc<Batch>; 2]>;

/// Readers that are to be woken without the lock. Most streams have few of them.
pub(crate) type Woken = SmallVec<[Waker; 4]>;

/// Keeps the last message of a batch that is about to go, and returns what was kept before it.
fn keep(kept: &mut Option<Arc<Batch>>, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
    std::mem::replace(kept, Batch::last(batch, COPIED).map(Arc::new))
}

/// The part of a reader that notices are counted by.
pub(super) struct Cursor<'a> {
    pub(super) notice: &'a mut u64,
    pub(super) number: u64,
}

/// What is left of two gaps that a reader meets as one.
pub(super) fn merged(first: Gap, second: Gap) -> Gap {
    match (first, second) {
        (Gap::Reconnected { down_for, .. }, Gap::Reconnected { down_for: more, reason }) => {
            Gap::Reconnected { down_for: Duration::saturating_add(down_for, more), reason }
        }
        (Gap::Sequence { missed }, Gap::Sequence { missed: more }) => {
            Gap::Sequence { missed: missed.zip(more).map(|(a, b)| a.saturating_add(b)) }
        }
        (reconnected @ Gap::Reconnected { .. }, _) | (_, reconnected) => reconnected,
    }
}
