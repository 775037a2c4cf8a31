//! One stream's messages on their way to its readers.
//!
//! A topic keeps the latest messages in a ring of batches, and its notices (gaps, the end) beside
//! the ring, each at its place. The connection publishes; each reader has a cursor and walks along
//! at its own pace. A reader takes the lock once per batch, not per message, and the publisher
//! wakes whoever is parked once per batch.
//!
//! # Invariants
//!
//! 1. A reader gets each message from its joining on, in order and once, or a gap in its place.
//! 2. The ring holds the messages `first .. next`: at most `buffer` of them and at most
//!    `buffer_bytes` bytes, but always the latest. So a reader costs the topic nothing, and a stuck
//!    one nobody.
//! 3. A notice stands between two batches. Lag never overwrites one: notices that fall into one lag
//!    come as one behind it, and `missed` counts messages only.
//! 4. A reader is told of a break if and only if it was there before it.
//! 5. A topic's end comes last, once per reader, whenever the reader comes to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::defect::{Defect, seeded};
use super::sync::{Mutex, Watch, register};
use crate::batch::{Batch, Entry};
use crate::config::StreamConfig;
use crate::error::{CloseReason, Gap};
use crate::message::Message;
use crate::name::StreamName;
use crate::observe::{Metrics, Status};
use crate::protocol::DisconnectReason;
use crate::transport::TransportError;

/// Notices kept for readers that have not come to them. More are merged, see [`Ring::trim`].
const MAX_NOTICES: usize = 64;

/// One stream. Its identity is its `Arc`'s: a stream closed and opened again is another topic.
#[derive(Debug)]
pub(crate) struct Topic {
    metrics: Arc<Metrics>,
    pub(crate) name: StreamName,
    ring: Mutex<Ring>,
    pub(crate) settings: StreamConfig,
    status: Arc<Watch<Status>>,
}

#[derive(Debug)]
struct Ring {
    batches: VecDeque<Arc<Batch>>,
    /// Position of the oldest message kept, and of the next to come.
    first: u64,
    next: u64,
    /// Bytes of the messages `first .. next`.
    bytes: usize,
    notices: VecDeque<Notice>,
    /// How many notices were removed from the front of `notices`.
    notices_gone: u64,
    /// The break that no join has mended yet.
    broken: Option<Break>,
    closed: Option<CloseReason>,
    readers: Slab<Parked>,
    /// The number of the next reader to join.
    next_reader: u64,
    facts: Facts,
}

/// What [`StreamInfo`](crate::StreamInfo) tells of a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) attempt: u32,
    pub(crate) bytes: u64,
    pub(crate) gaps: u64,
    pub(crate) joined_at: Option<Instant>,
    pub(crate) lag: u64,
    pub(crate) lagged: u64,
    pub(crate) last_error: Option<Arc<TransportError>>,
    pub(crate) last_message: Option<Instant>,
    pub(crate) messages: u64,
}

#[derive(Debug)]
struct Notice {
    /// Position of the message that it stands before.
    at: u64,
    gap: Gap,
    /// Readers of this number and above have joined after what it tells of.
    below: u64,
}

#[derive(Debug)]
struct Break {
    below: u64,
    reason: DisconnectReason,
    since: Instant,
}

/// What a topic knows of a reader.
#[derive(Debug)]
struct Parked {
    /// Position up to which the reader has taken batches.
    taken: u64,
    waker: Option<Waker>,
}

impl Topic {
    pub(crate) fn new(name: StreamName, settings: StreamConfig, metrics: Arc<Metrics>) -> Self {
        let status = Arc::new(Watch::new(Status::Connecting { attempt: 1 }));
        Self { metrics, name, ring: Mutex::new(Ring::new()), settings, status }
    }

    /// A reader of everything that is published from now on.
    pub(crate) fn read(self: &Arc<Self>) -> Reader {
        let mut ring = self.ring.lock();
        let (cursor, number) = (ring.next, ring.next_reader);
        ring.next_reader += 1;
        let place = ring.readers.insert(Parked { taken: cursor, waker: None });
        let notice = ring.notices_end();
        drop(ring);
        Reader {
            batch: None,
            cursor,
            ended: false,
            notice,
            number,
            pending: None,
            place,
            topic: Arc::clone(self),
        }
    }

    /// Appends messages that arrived together, in order. `woken` is empty before and after.
    pub(crate) fn publish(&self, messages: Vec<Message>, now: Instant, woken: &mut Vec<Waker>) {
        let evicted = {
            let mut ring = self.ring.lock();
            let evicted = ring.push(messages, now, &self.settings);
            ring.take_wakers(woken);
            evicted
        };
        drop(evicted);
        woken.drain(..).for_each(Waker::wake);
    }

    /// The stream lost its source, which was last heard at `since`.
    pub(crate) fn break_off(&self, since: Instant, reason: DisconnectReason) {
        let mut ring = self.ring.lock();
        let below = ring.next_reader;
        ring.facts.joined_at = None;
        ring.broken.get_or_insert(Break { below, reason, since });
    }

    /// The stream is joined: what is published next follows a gap if there was a break.
    pub(crate) fn joined(&self, now: Instant, attempt: u32) {
        let mended = {
            let mut ring = self.ring.lock();
            ring.facts.joined_at = Some(now);
            ring.facts.attempt = attempt;
            ring.broken.take()
        };
        if let Some(Break { below, reason, since }) = mended {
            let down_for = now.saturating_duration_since(since);
            self.metrics.reconnected(down_for);
            self.notice(Gap::Reconnected { down_for, reason }, Some(below));
        }
        self.set_status(Status::Open);
    }

    /// The feed itself skipped messages here.
    pub(crate) fn skipped(&self, missed: Option<u64>) {
        self.notice(Gap::Sequence { missed }, None);
    }

    /// Tells of `gap` the readers below a number: by default, all that there are.
    fn notice(&self, gap: Gap, below: Option<u64>) {
        self.metrics.gap(&gap);
        let mut woken = Vec::new();
        let evicted = {
            let mut ring = self.ring.lock();
            ring.facts.gaps += 1;
            let (at, below) = (ring.next, below.unwrap_or(ring.next_reader));
            if !ring.readers.is_empty() {
                ring.notices.push_back(Notice { at, gap, below });
            }
            ring.take_wakers(&mut woken);
            ring.trim(&self.settings)
        };
        drop(evicted);
        woken.drain(..).for_each(Waker::wake);
    }

    /// Ends the stream for all its readers. The first reason stands.
    pub(crate) fn close(&self, reason: CloseReason) {
        let mut woken = Vec::new();
        {
            let mut ring = self.ring.lock();
            if ring.closed.is_some() {
                return;
            }
            ring.closed = Some(reason.clone());
            ring.facts.joined_at = None;
            ring.take_wakers(&mut woken);
        }
        self.metrics.stream_closed(&reason);
        self.set_status(Status::Closed(reason));
        self.status.close();
        woken.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.ring.lock().closed.is_some()
    }

    /// Records why the stream lost its source or could not get one.
    pub(crate) fn failed(&self, error: Arc<TransportError>) {
        let old = self.ring.lock().facts.last_error.replace(error);
        drop(old);
    }

    pub(crate) fn set_status(&self, status: Status) {
        let mut status = Some(status);
        self.status.update(|slot| {
            if slot.is_closed() {
                return false; // The end is the end.
            }
            if let Some(status) = &mut status {
                std::mem::swap(slot, status);
            }
            true
        });
    }

    pub(crate) fn status(&self) -> &Arc<Watch<Status>> {
        &self.status
    }

    pub(crate) fn facts(&self) -> Facts {
        let ring = self.ring.lock();
        let slowest = ring.readers.iter().map(|(_, reader)| reader.taken).min();
        let lag = slowest.map_or(0, |taken| ring.next.saturating_sub(taken));
        Facts { lag, ..ring.facts.clone() }
    }
}

impl Ring {
    fn new() -> Self {
        Self {
            batches: VecDeque::new(),
            first: 0,
            next: 0,
            bytes: 0,
            notices: VecDeque::new(),
            notices_gone: 0,
            broken: None,
            closed: None,
            readers: Slab::new(),
            next_reader: 0,
            facts: Facts::default(),
        }
    }

    /// Appends a batch, and returns what fell out of the ring, to be dropped without the lock.
    fn push(&mut self, messages: Vec<Message>, now: Instant, settings: &StreamConfig) -> Evicted {
        let bytes: usize = messages.iter().map(Message::len).sum();
        let batch = Batch::new(self.next, messages, now);
        self.facts.messages += batch.messages.len() as u64;
        self.facts.bytes += bytes as u64;
        self.facts.last_message = Some(now);
        self.next = batch.end();
        self.bytes += bytes;
        self.batches.push_back(Arc::new(batch));
        self.trim(settings)
    }

    /// Keeps the ring within its bounds.
    fn trim(&mut self, settings: &StreamConfig) -> Evicted {
        let mut evicted = Vec::new();
        if self.readers.is_empty() {
            self.forget_all(&mut evicted);
            return evicted;
        }
        while self.notices.len() > MAX_NOTICES {
            self.merge_oldest_notices(&mut evicted);
        }
        let oldest = self.next.saturating_sub(settings.buffer as u64);
        self.evict_to(oldest, &mut evicted);
        while self.bytes > settings.buffer_bytes && self.first + 1 < self.next {
            self.evict_to(self.first + 1, &mut evicted);
        }
        evicted
    }

    /// With nobody to read it, nothing is kept.
    fn forget_all(&mut self, evicted: &mut Evicted) {
        evicted.extend(self.batches.drain(..));
        self.notices_gone = self.notices_end();
        self.notices.clear();
        self.first = self.next;
        self.bytes = 0;
    }

    /// Lets go of messages before `position`.
    fn evict_to(&mut self, position: u64, evicted: &mut Evicted) {
        while self.first < position {
            let Some(batch) = self.batches.front() else { return };
            let end = batch.end().min(position);
            let range = (self.first - batch.first) as usize..(end - batch.first) as usize;
            self.bytes -= batch.messages[range].iter().map(Message::len).sum::<usize>();
            self.first = end;
            if end == batch.end() {
                evicted.extend(self.batches.pop_front());
            }
        }
    }

    /// Makes one notice of the oldest two. The messages between them go too, so that a reader that
    /// has come to neither lags over both, and finds what is left of them in its place.
    fn merge_oldest_notices(&mut self, evicted: &mut Evicted) {
        let Some(oldest) = self.notices.pop_front() else { return };
        self.notices_gone += 1;
        if let Some(next) = self.notices.front_mut() {
            next.gap = merged(oldest.gap, next.gap.clone());
            next.below = next.below.max(oldest.below);
            let at = next.at;
            self.evict_to(at, evicted);
        }
    }

    /// The index after the last notice, counted over all that ever were.
    fn notices_end(&self) -> u64 {
        self.notices_gone + self.notices.len() as u64
    }

    /// The next notice for `reader`, if it stands at or before `position`.
    fn next_notice(&self, reader: &mut Cursor<'_>, position: u64) -> Option<Gap> {
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

    fn batch_at(&self, position: u64) -> Option<&Arc<Batch>> {
        let index = self.batches.partition_point(|batch| batch.end() <= position);
        self.batches.get(index)
    }

    fn take_wakers(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(self.readers.iter_mut().filter_map(|(_, reader)| reader.waker.take()));
    }
}

type Evicted = Vec<Arc<Batch>>;

/// The part of a reader that notices are counted by.
struct Cursor<'a> {
    notice: &'a mut u64,
    number: u64,
}

/// What is left of two gaps that a reader meets as one.
fn merged(first: Gap, second: Gap) -> Gap {
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

/// One reader of a topic. Dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The batch that `cursor` is in.
    batch: Option<Arc<Batch>>,
    cursor: u64,
    ended: bool,
    /// Index of the first notice not met yet.
    notice: u64,
    number: u64,
    /// What comes before anything else: the breaks within a lag.
    pending: Option<Gap>,
    place: usize,
    topic: Arc<Topic>,
}

/// What a reader comes to next.
#[derive(Debug)]
pub(crate) enum Next {
    /// The stream is over.
    Closed(CloseReason),
    Gap(Gap),
    /// [`Reader::take`] has it.
    Message,
}

impl Reader {
    /// What comes next; `None` after the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.batch.as_ref().is_some_and(|batch| self.cursor < batch.end()) {
            return Poll::Ready(Some(Next::Message));
        }
        let old = self.batch.take();
        drop(old);
        // Once per batch, so that a reader that always finds one lets other tasks run.
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let next = ready!(self.poll_refill(cx));
        coop.made_progress();
        Poll::Ready(Some(next))
    }

    fn poll_refill(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(gap) = self.pending.take() {
            return Poll::Ready(Next::Gap(gap));
        }
        let topic = Arc::clone(&self.topic);
        let replaced = {
            let mut ring = topic.ring.lock();
            if let Some(next) = self.advance(&mut ring) {
                drop(ring);
                if let Next::Gap(gap @ Gap::Lagged { .. }) = &next {
                    topic.metrics.gap(gap);
                }
                return Poll::Ready(next);
            }
            if seeded(Defect::ParkInTwoSteps) {
                drop(ring);
                ring = topic.ring.lock();
            }
            register(&mut ring.readers[self.place].waker, cx)
        };
        drop(replaced);
        Poll::Pending
    }

    /// Steps to what comes next, if there is anything.
    fn advance(&mut self, ring: &mut Ring) -> Option<Next> {
        let mut place = Cursor { notice: &mut self.notice, number: self.number };
        if let Some(gap) = ring.next_notice(&mut place, self.cursor) {
            return Some(Next::Gap(gap));
        }
        if self.cursor < ring.first {
            let missed = ring.first - self.cursor;
            self.cursor = ring.first;
            ring.facts.lagged += missed;
            ring.readers[self.place].taken = self.cursor;
            while let Some(gap) = ring.next_notice(&mut place, ring.first) {
                self.pending = Some(match self.pending.take() {
                    Some(earlier) => merged(earlier, gap),
                    None => gap,
                });
            }
            return Some(Next::Gap(Gap::Lagged { missed }));
        }
        if let Some(batch) = ring.batch_at(self.cursor) {
            self.batch = Some(Arc::clone(batch));
            ring.readers[self.place].taken = batch.end();
            return Some(Next::Message);
        }
        let reason = ring.closed.clone()?;
        self.ended = true;
        Some(Next::Closed(reason))
    }

    /// The message that [`poll_next`](Self::poll_next) has announced, and steps over it.
    pub(crate) fn take<T>(&mut self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let batch = self.batch.as_ref()?;
        let entry = Entry::new(batch, (self.cursor - batch.first) as usize);
        self.cursor += 1; // Before the user's code runs: a panic in it costs one message.
        Some(read(&entry))
    }

    /// Whether the end has been met.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// How many messages are published that this reader has not come to.
    pub(crate) fn lag(&self) -> u64 {
        self.topic.ring.lock().next - self.cursor
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (parked, evicted) = {
            let mut ring = self.topic.ring.lock();
            let parked = ring.readers.remove(self.place);
            (parked, ring.trim(&self.topic.settings))
        };
        drop((parked, evicted));
    }
}
