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

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
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
#[derive(Clone, Debug)]
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

impl Facts {
    fn new() -> Self {
        Self {
            attempt: 1,
            bytes: 0,
            gaps: 0,
            joined_at: None,
            lag: 0,
            lagged: 0,
            last_error: None,
            last_message: None,
            messages: 0,
        }
    }
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
    /// The reader's cursor, as far as it has told.
    at: Arc<AtomicU64>,
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
        let at = Arc::new(AtomicU64::new(cursor));
        let place = ring.readers.insert(Parked { at: Arc::clone(&at), waker: None });
        let notice = ring.notices_end();
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
        if let Status::Connecting { attempt } = status {
            self.ring.lock().facts.attempt = attempt;
        }
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
        let slowest = ring.readers.iter().map(|(_, reader)| reader.at.load(Relaxed)).min();
        let lag = slowest.map_or(0, |at| ring.next.saturating_sub(at));
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
            facts: Facts::new(),
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
        // What all have taken goes too: it would only keep the buffers it was read into from reuse.
        let taken = self.readers.iter().map(|(_, reader)| reader.at.load(Relaxed)).min();
        self.evict_to(oldest.max(taken.unwrap_or(0)), &mut evicted);
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
            self.at.store(self.cursor, Relaxed);
            ring.facts.lagged += missed;
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
        self.at.store(self.cursor, Relaxed);
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

/// A topic driven at random, held against a model with a queue per reader that forgets nothing.
#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::task::{ArcWake, waker};
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    #[derive(Clone, Debug)]
    enum Op {
        Publish(Vec<usize>),
        Break,
        Rejoin,
        Skip(Option<u64>),
        Join,
        Leave(usize),
        Read { reader: usize, most: usize },
        Close,
    }

    fn op() -> impl Strategy<Value = Op> {
        let skip = prop_oneof![Just(None), (1..9_u64).prop_map(Some)];
        prop_oneof![
            6 => proptest::collection::vec(1..12_usize, 1..6).prop_map(Op::Publish),
            2 => Just(Op::Break),
            3 => Just(Op::Rejoin),
            1 => skip.prop_map(Op::Skip),
            2 => Just(Op::Join),
            1 => any::<usize>().prop_map(Op::Leave),
            6 => (any::<usize>(), 1..9_usize).prop_map(|(reader, most)| Op::Read { reader, most }),
        ]
    }

    /// What a reader that never lagged would get.
    #[derive(Clone, Debug, PartialEq)]
    enum Owed {
        Message(u64),
        Gap(Gap),
        End,
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl ArcWake for Wakes {
        fn wake_by_ref(wakes: &Arc<Self>) {
            wakes.0.fetch_add(1, Relaxed);
        }
    }

    struct Reading {
        /// Whether it was there before the break that is not mended yet.
        in_break: bool,
        lagged: bool,
        owed: VecDeque<Owed>,
        /// How often it had been woken when it found nothing.
        parked: Option<usize>,
        reader: Reader,
        /// Gaps told since the last message.
        told: usize,
        wakes: Arc<Wakes>,
    }

    struct Model {
        broken: Option<Instant>,
        closed: bool,
        /// Whether so many notices are unread that some may have been merged.
        crowded: bool,
        now: Instant,
        readers: Vec<Reading>,
        sizes: Vec<usize>,
        topic: Arc<Topic>,
    }

    impl Model {
        fn new(buffer: usize, buffer_bytes: usize) -> Self {
            let settings = Config::default().buffer(buffer).buffer_bytes(buffer_bytes).stream();
            let name = StreamName::try_from("x").unwrap();
            Self {
                broken: None,
                closed: false,
                crowded: false,
                now: Instant::now(),
                readers: Vec::new(),
                sizes: Vec::new(),
                topic: Arc::new(Topic::new(name, settings, Arc::default())),
            }
        }

        fn apply(&mut self, op: Op) {
            self.now += Duration::from_secs(1);
            match op {
                Op::Publish(sizes) if !self.closed => self.publish(&sizes),
                Op::Break if !self.closed => self.break_off(),
                Op::Rejoin if !self.closed => self.rejoin(),
                Op::Skip(missed) if !self.closed => {
                    self.topic.skipped(missed);
                    self.owe(&Owed::Gap(Gap::Sequence { missed }), |_| true);
                }
                Op::Join => self.join(),
                Op::Leave(reader) if !self.readers.is_empty() => {
                    let at = reader % self.readers.len();
                    drop(self.readers.swap_remove(at));
                }
                Op::Read { reader, most } if !self.readers.is_empty() => {
                    let at = reader % self.readers.len();
                    (0..most).for_each(|_| _ = self.read(at));
                }
                Op::Close if !self.closed => {
                    self.closed = true;
                    self.topic.close(CloseReason::Shutdown);
                    self.topic.close(CloseReason::Aborted); // The first reason stands.
                    self.owe(&Owed::End, |_| true);
                }
                _ => {}
            }
            self.check_bounds();
        }

        fn publish(&mut self, sizes: &[usize]) {
            let text = |(seq, size): (usize, &usize)| format!("{seq:>size$}");
            let texts: Vec<_> = (self.sizes.len()..).zip(sizes).map(text).collect();
            let messages = texts.iter().map(|text| Message::from(&**text)).collect();
            let mut woken = Vec::new();
            self.topic.publish(messages, self.now, &mut woken);
            assert!(woken.is_empty());
            for text in texts {
                self.owe(&Owed::Message(self.sizes.len() as u64), |_| true);
                self.sizes.push(text.len());
            }
        }

        fn break_off(&mut self) {
            let reason = DisconnectReason::Ended;
            self.topic.break_off(self.now, reason);
            if self.broken.is_none() {
                self.broken = Some(self.now);
                self.readers.iter_mut().for_each(|reading| reading.in_break = true);
            }
        }

        fn rejoin(&mut self) {
            self.topic.joined(self.now, 1);
            if let Some(since) = self.broken.take() {
                let down_for = self.now - since;
                let gap = Gap::Reconnected { down_for, reason: DisconnectReason::Ended };
                self.owe(&Owed::Gap(gap), |reading| reading.in_break);
            }
            self.readers.iter_mut().for_each(|reading| reading.in_break = false);
        }

        fn join(&mut self) {
            let owed = self.closed.then_some(Owed::End).into_iter().collect();
            self.readers.push(Reading {
                in_break: false,
                lagged: false,
                owed,
                parked: None,
                reader: self.topic.read(),
                told: 0,
                wakes: Arc::default(),
            });
        }

        fn owe(&mut self, owed: &Owed, to: impl Fn(&Reading) -> bool) {
            for reading in self.readers.iter_mut().filter(|reading| to(reading)) {
                reading.owed.push_back(owed.clone());
                if let Some(before) = reading.parked.take() {
                    let woken = reading.wakes.0.load(Relaxed) - before;
                    assert_eq!(woken, 1, "woken once by what it waited for");
                }
            }
        }

        /// Where a ring begins that holds as much of what was published as it may.
        fn window(&self) -> u64 {
            let settings = &self.topic.settings;
            let mut bytes = 0;
            let fits = |size: &&usize| {
                bytes += **size;
                bytes <= settings.buffer_bytes
            };
            let kept = self.sizes.iter().rev().take(settings.buffer).take_while(fits).count();
            (self.sizes.len() - kept.max(1).min(self.sizes.len())) as u64
        }

        /// Reads one item, and says whether there was one.
        fn read(&mut self, at: usize) -> bool {
            let window = self.window();
            let crowded = self.crowded;
            let reading = &mut self.readers[at];
            let held = reading.reader.batch.as_ref().map(|batch| batch.end());
            let holds = held.is_some_and(|end| reading.reader.cursor < end);
            assert_eq!(reading.reader.lag(), self.sizes.len() as u64 - reading.reader.cursor);
            let waker = waker(Arc::clone(&reading.wakes));
            match reading.reader.poll_next(&mut Context::from_waker(&waker)) {
                Poll::Pending => {
                    reading.settle(crowded);
                    assert!(reading.owed.is_empty(), "{:?}", reading.owed);
                    reading.parked = Some(reading.wakes.0.load(Relaxed));
                    return false;
                }
                Poll::Ready(None) => {
                    assert!(self.closed && reading.owed.is_empty() && reading.reader.is_ended());
                    return false;
                }
                Poll::Ready(Some(Next::Message)) => {
                    let message = |entry: &Entry<'_>| {
                        let text = entry.message().as_text().unwrap().trim().to_owned();
                        assert_eq!(text, entry.seq().to_string());
                        entry.seq()
                    };
                    let seq = reading.reader.take(message).unwrap();
                    reading.message(seq, crowded);
                    assert!(holds || crowded || seq >= window, "{seq} is out of the ring");
                }
                Poll::Ready(Some(Next::Gap(Gap::Lagged { missed }))) => {
                    assert!(!holds, "a batch in hand is not lost");
                    let first = reading.lag(missed, crowded);
                    assert!(first == window || crowded, "{first} is not the oldest: {window}");
                }
                Poll::Ready(Some(Next::Gap(gap))) => reading.gap(&gap, crowded),
                Poll::Ready(Some(Next::Closed(reason))) => {
                    reading.settle(crowded);
                    assert!(matches!(reason, CloseReason::Shutdown));
                    assert_eq!(reading.owed.pop_front(), Some(Owed::End));
                    assert!(reading.owed.is_empty());
                }
            }
            true
        }

        fn check_bounds(&self) {
            let ring = self.topic.ring.lock();
            let settings = &self.topic.settings;
            let (first, next) = (ring.first as usize, ring.next as usize);
            assert_eq!(next, self.sizes.len());
            assert_eq!(ring.bytes, self.sizes[first..].iter().sum::<usize>());
            assert!(next - first <= settings.buffer);
            assert!(ring.bytes <= settings.buffer_bytes || next - first == 1);
            assert!(ring.notices.len() <= MAX_NOTICES);
            assert!(ring.notices.iter().is_sorted_by_key(|notice| notice.at));
            let kept = ring.batches.iter().map(|batch| batch.messages.len()).sum::<usize>();
            let before = ring.batches.front().map_or(0, |batch| ring.first - batch.first);
            assert_eq!(kept as u64 - before, ring.next - ring.first);
            assert_eq!(ring.readers.len(), self.readers.len());
            if self.readers.is_empty() {
                assert!(ring.batches.is_empty() && ring.notices.is_empty());
            }
        }

        fn read_all(&mut self) {
            for at in 0..self.readers.len() {
                while self.read(at) {}
                assert!(self.readers[at].owed.is_empty());
            }
        }
    }

    impl Reading {
        fn message(&mut self, seq: u64, crowded: bool) {
            self.settle(crowded);
            assert_eq!(self.owed.pop_front(), Some(Owed::Message(seq)));
            (self.told, self.lagged) = (0, false);
        }

        /// Steps over what was lost; the gaps in it stay owed. Returns the next position.
        fn lag(&mut self, missed: u64, crowded: bool) -> u64 {
            assert!(missed > 0);
            if self.told > 0 {
                self.settle(crowded);
            }
            let mut gaps = VecDeque::new();
            let mut last = 0;
            let mut left = missed;
            while left > 0 {
                match self.owed.pop_front() {
                    Some(Owed::Message(seq)) => (last, left) = (seq, left - 1),
                    Some(gap @ Owed::Gap(_)) => gaps.push_back(gap),
                    other => panic!("{missed} missed, and {left} of them are {other:?}"),
                }
            }
            gaps.append(&mut self.owed);
            (self.owed, self.told, self.lagged) = (gaps, 0, true);
            last + 1
        }

        /// The gaps that stand before the next message.
        fn due(&self) -> Vec<Gap> {
            let gap = |owed: &Owed| match owed {
                Owed::Gap(gap) => Some(gap.clone()),
                Owed::Message(_) | Owed::End => None,
            };
            self.owed.iter().map_while(gap).collect()
        }

        fn gap(&mut self, told: &Gap, crowded: bool) {
            let due = self.due();
            assert!(!due.is_empty(), "{told:?} is not owed");
            self.told += 1;
            let covers = if self.lagged && !crowded { due.len() } else { 1 };
            self.owed.drain(..covers);
            self.lagged = false;
            assert!(crowded || *told == sum(&due[..covers]), "{told:?} for {due:?}");
        }

        /// No gap is owed any more, or it was merged into one that was told.
        fn settle(&mut self, crowded: bool) {
            let due = self.due().len();
            if crowded && self.told > 0 {
                self.owed.drain(..due);
                return;
            }
            assert_eq!(due, 0, "a gap was lost: {:?}", self.owed);
        }
    }

    fn sum(gaps: &[Gap]) -> Gap {
        let down = |gap: &Gap| match gap {
            Gap::Reconnected { down_for, .. } => Some(*down_for),
            _ => None,
        };
        let missed = |gap: &Gap| match gap {
            Gap::Sequence { missed } => *missed,
            _ => None,
        };
        if gaps.iter().any(|gap| down(gap).is_some()) {
            let down_for = gaps.iter().filter_map(down).sum();
            return Gap::Reconnected { down_for, reason: DisconnectReason::Ended };
        }
        Gap::Sequence { missed: gaps.iter().map(missed).sum() }
    }

    fn cases(cases: u32) -> ProptestConfig {
        ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(cases(512))]

        #[test]
        fn readers_get_everything_or_a_gap_in_its_place(
            buffer in 1..9_usize,
            buffer_bytes in 1..60_usize,
            ops in proptest::collection::vec(op(), 0..60), // Too few for notices to be merged.
            closes in any::<bool>(),
        ) {
            let mut model = Model::new(buffer, buffer_bytes);
            model.apply(Op::Join);
            ops.into_iter().for_each(|op| model.apply(op));
            if closes {
                model.apply(Op::Close);
                model.apply(Op::Join);
            }
            model.read_all();
        }
    }

    proptest! {
        #![proptest_config(cases(24))]

        #[test]
        fn no_gap_is_lost_where_there_are_too_many(
            buffer in 1..200_usize,
            ops in proptest::collection::vec(op(), 300..600),
            breaks in 1..200_usize,
        ) {
            let mut model = Model::new(buffer, usize::MAX);
            model.crowded = true;
            model.apply(Op::Join);
            let is_read = |op: &Op| matches!(op, Op::Read { .. } | Op::Leave(_));
            for (i, op) in ops.into_iter().enumerate() {
                if i % breaks == 0 {
                    (0..70).for_each(|_| model.apply(Op::Skip(Some(1))));
                }
                if !is_read(&op) || i % 3 == 0 {
                    model.apply(op);
                }
            }
            model.apply(Op::Close);
            model.read_all();
        }
    }

    #[test]
    fn a_thousand_breaks_unread_cost_little_and_lose_none() {
        let mut model = Model::new(4, usize::MAX);
        model.apply(Op::Join);
        for _ in 0..1000 {
            [Op::Break, Op::Rejoin].into_iter().for_each(|op| model.apply(op));
        }
        let reader = &mut model.readers[0].reader;
        let mut told = Duration::ZERO;
        let mut gaps = 0;
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        while let Poll::Ready(next) = reader.poll_next(&mut cx) {
            let Some(Next::Gap(Gap::Reconnected { down_for, .. })) = next else { panic!() };
            told += down_for;
            gaps += 1;
        }
        assert_eq!((gaps, told), (MAX_NOTICES, Duration::from_secs(1000)));
        assert_eq!(model.topic.facts().gaps, 1000);
    }

    #[test]
    fn a_merged_notice_is_not_told_to_a_reader_that_came_after_both() {
        let mut model = Model::new(4, usize::MAX);
        model.apply(Op::Join);
        model.apply(Op::Skip(None));
        model.apply(Op::Break);
        model.apply(Op::Join); // While the stream is down: nothing has been missed yet.
        model.apply(Op::Rejoin);
        (0..MAX_NOTICES - 1).for_each(|_| model.apply(Op::Skip(Some(1))));
        let late = &mut model.readers[1];
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        for _ in 0..MAX_NOTICES - 1 {
            let next = late.reader.poll_next(&mut cx);
            let skipped = Next::Gap(Gap::Sequence { missed: Some(1) });
            assert_eq!(format!("{next:?}"), format!("{:?}", Poll::Ready(Some(skipped))));
        }
        assert!(late.reader.poll_next(&mut cx).is_pending());
    }
}
