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

mod ring;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;
use tokio::time::Instant;

use self::ring::{Break, Cursor, Facts, Notice, Parked, Ring, merged};
use super::defect::{Defect, seeded};
use super::outgoing::Outgoing;
use super::sync::{Mutex, Watch, register};
use crate::batch::{Batch, Entry};
use crate::config::StreamConfig;
use crate::error::{CloseReason, Gap};
use crate::message::Message;
use crate::name::StreamName;
use crate::observe::{Delays, Latency, Metrics, Series, Status};
use crate::protocol::DisconnectReason;
use crate::transport::TransportError;

/// One stream. Its identity is its `Arc`'s: a stream closed and opened again is another topic.
#[derive(Debug)]
pub(crate) struct Topic {
    meters: Mutex<Vec<Weak<Meter>>>,
    metrics: Arc<Metrics>,
    pub(crate) name: StreamName,
    /// What the program itself sends on the stream.
    pub(crate) outgoing: Arc<Outgoing>,
    ring: Mutex<Ring>,
    /// Where it is counted by itself, if it is to be.
    series: Option<Arc<Series>>,
    pub(crate) settings: StreamConfig,
    status: Arc<Watch<Status>>,
}

/// What a reader measures the age of its messages with.
pub(crate) type Meter = Mutex<Delays>;

impl Topic {
    pub(crate) fn new(name: StreamName, settings: StreamConfig, metrics: Arc<Metrics>) -> Self {
        let status = Status::Connecting { attempt: 1 };
        metrics.stream_began(&status);
        Self {
            meters: Mutex::default(),
            series: metrics.series(&name),
            metrics,
            outgoing: Outgoing::new(name.clone(), settings.send_queue),
            name,
            ring: Mutex::new(Ring::new()),
            settings,
            status: Arc::new(Watch::new(status)),
        }
    }

    /// A reader of everything that is published from now on.
    pub(crate) fn read(self: &Arc<Self>) -> Reader {
        let mut ring = self.ring.lock();
        let (cursor, number) = (ring.next, ring.next_reader);
        ring.next_reader += 1;
        let at = Arc::new(AtomicU64::new(cursor));
        let place = ring.readers.insert(Parked { at: Arc::clone(&at), waker: None });
        let notice = ring.notices_end();
        if seeded(Defect::ReplayInTwoSteps) {
            drop(ring);
            ring = self.ring.lock();
        }
        let replay = ring.latest().filter(|_| self.settings.replay_latest).map(Arc::clone);
        drop(ring);
        Reader {
            at,
            batch: None,
            cursor,
            ended: false,
            notice,
            number,
            pending: None,
            place,
            replay,
            replayed: false,
            topic: Arc::clone(self),
        }
    }

    /// What `read` makes of the latest message, if there was one.
    pub(crate) fn latest<T>(&self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let batch = self.ring.lock().latest().map(Arc::clone)?;
        Some(read(&Entry::last(&batch)?))
    }

    /// Counts messages that arrived together, and appends them in order. `woken` is empty before and
    /// after.
    pub(crate) fn publish(&self, messages: Vec<Message>, now: Instant, woken: &mut Vec<Waker>) {
        let count = messages.len() as u64;
        let bytes = messages.iter().map(Message::len).sum::<usize>();
        self.metrics.received(count, bytes as u64, self.series.as_deref());
        self.metrics.recent.messages.add(count, now);
        let evicted = {
            let mut ring = self.ring.lock();
            let evicted = ring.push(messages, bytes, now, &self.settings);
            ring.take_wakers(woken);
            evicted
        };
        drop(evicted);
        woken.drain(..).for_each(Waker::wake);
    }

    /// Counts a gap that somebody is told of.
    pub(crate) fn counted(&self, gap: &Gap) {
        self.metrics.gap(gap, self.series.as_deref());
    }

    /// The stream lost its source, which was last heard at `since`.
    pub(crate) fn break_off(&self, since: Instant, reason: DisconnectReason) {
        let mut ring = self.ring.lock();
        let below = ring.next_reader;
        ring.facts.joined_at = None;
        ring.lost(since);
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
        if let Some(Break { below, reason, since }) =
            mended.filter(|_| !seeded(Defect::GapIsNotSent))
        {
            let down_for = now.saturating_duration_since(since);
            self.metrics.reconnected(down_for);
            self.notice(Gap::Reconnected { down_for, reason }, Some(below));
        }
        self.set_status(Status::Open);
    }

    /// The feed itself tells that messages are missing here.
    pub(crate) fn missing(&self, gap: Gap) {
        self.notice(gap, None);
    }

    /// Whether so many more messages, of so many bytes in all, fit beside what readers have yet to
    /// take.
    pub(crate) fn has_room(&self, messages: usize, bytes: usize) -> bool {
        let ring = self.ring.lock();
        let unread = ring.slowest().map_or(0, |at| ring.next.saturating_sub(at));
        // What all have taken may still be counted in the ring, but goes before what comes.
        let held = if unread == 0 { 0 } else { ring.bytes };
        let fits = held + bytes <= self.settings.buffer_bytes || (unread == 0 && messages == 1);
        ring.readers.is_empty() || (fits && unread + messages as u64 <= self.settings.buffer as u64)
    }

    /// Tells of `gap` the readers below a number: by default, all that there are.
    fn notice(&self, gap: Gap, below: Option<u64>) {
        self.counted(&gap);
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
            let told =
                if seeded(Defect::ReasonIsLost) { CloseReason::Unused } else { reason.clone() };
            ring.closed = Some(told);
            ring.facts.joined_at = None;
            ring.take_wakers(&mut woken);
        }
        self.outgoing.close();
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
        if let Status::Connecting { attempt } = status {
            self.ring.lock().facts.attempt = attempt;
        }
        let new = status.clone();
        let mut status = Some(status);
        let mut old = None;
        self.status.update(|slot| {
            if slot.is_closed() {
                return false; // The end is the end.
            }
            old = status.take().map(|status| std::mem::replace(slot, status));
            true
        });
        if let Some(old) = old {
            self.metrics.stream_moved(&old, &new);
        }
    }

    pub(crate) fn status(&self) -> &Arc<Watch<Status>> {
        &self.status
    }

    pub(crate) fn facts(&self) -> Facts {
        let ring = self.ring.lock();
        let lag = ring.slowest().map_or(0, |at| ring.next.saturating_sub(at));
        let (down_since, unread_since) = (ring.down_since(), ring.unread_since());
        Facts { down_since, lag, unread_since, ..ring.facts.clone() }
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

/// One reader of a topic. Dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The cursor, for others to see.
    at: Arc<AtomicU64>,
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
    /// A batch whose last message came before this reader, and is yielded before all else.
    replay: Option<Arc<Batch>>,
    /// Whether that was the last thing yielded.
    replayed: bool,
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
        if self.has_message() {
            return Poll::Ready(Some(Next::Message));
        }
        // Once per batch, so that a reader that always finds one lets other tasks run.
        let coop = ready!(coop::poll_proceed(cx));
        let next = self.refill(Some(cx));
        if next.is_some() {
            coop.made_progress();
        }
        next.map_or(Poll::Pending, |next| Poll::Ready(Some(next)))
    }

    /// What comes next, if it is there and the task has not had its turn. Does not ask to be woken.
    pub(crate) fn next_now(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        if self.ended {
            return None;
        }
        if self.has_message() {
            return Some(Next::Message);
        }
        if !coop::has_budget_remaining() {
            return None;
        }
        let Poll::Ready(coop) = coop::poll_proceed(cx) else { return None };
        let next = self.refill(None)?;
        coop.made_progress();
        Some(next)
    }

    fn has_message(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| self.cursor < batch.end())
    }

    /// Steps to what comes next; if there is nothing, asks for `parking` to be woken by it.
    fn refill(&mut self, parking: Option<&Context<'_>>) -> Option<Next> {
        drop(self.batch.take());
        let next = self.step(parking)?;
        self.replayed = false;
        Some(next)
    }

    fn step(&mut self, parking: Option<&Context<'_>>) -> Option<Next> {
        if self.replay.is_some() {
            return Some(Next::Message);
        }
        if let Some(gap) = self.pending.take() {
            return Some(Next::Gap(gap));
        }
        let topic = Arc::clone(&self.topic);
        let replaced = {
            let mut ring = topic.ring.lock();
            if let Some(next) = self.advance(&mut ring) {
                drop(ring);
                if let Next::Gap(gap @ Gap::Lagged { .. }) = &next {
                    topic.counted(gap);
                }
                return Some(next);
            }
            if seeded(Defect::ParkInTwoSteps) {
                drop(ring);
                ring = topic.ring.lock();
            }
            parking.and_then(|cx| register(&mut ring.readers[self.place].waker, cx))
        };
        drop(replaced);
        None
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
            self.at.store(self.cursor, Relaxed);
            ring.facts.lagged += missed;
            while let Some(gap) = ring.next_notice(&mut place, ring.first) {
                if seeded(Defect::LagOverwritesNotice) {
                    continue;
                }
                self.pending = Some(match self.pending.take() {
                    Some(earlier) => merged(earlier, gap),
                    None => gap,
                });
            }
            return Some(Next::Gap(Gap::Lagged { missed }));
        }
        if let Some(batch) = ring.batch_at(self.cursor) {
            self.batch = Some(Arc::clone(batch));
            return Some(Next::Message);
        }
        let reason = ring.closed.clone()?;
        self.ended = true;
        Some(Next::Closed(reason))
    }

    /// The message that [`poll_next`](Self::poll_next) has announced, and steps over it.
    pub(crate) fn take<T>(&mut self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let Some(batch) = &self.batch else { return self.take_replay(read) };
        let entry = Entry::new(batch, (self.cursor - batch.first) as usize);
        self.cursor += 1; // Before the user's code runs: a panic in it costs one message.
        self.at.store(self.cursor, Relaxed);
        Some(read(&entry))
    }

    fn take_replay<T>(&mut self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let batch = self.replay.take()?;
        self.replayed = true;
        Some(read(&Entry::last(&batch)?.replayed()))
    }

    /// Whether what was yielded last came before this reader did.
    pub(crate) fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// When the message last [taken](Self::take) was read from the socket.
    pub(crate) fn received_at(&self) -> Option<Instant> {
        self.batch.as_ref().map(|batch| batch.received_at)
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

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests;
