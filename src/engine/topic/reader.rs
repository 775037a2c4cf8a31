//! One reader of a topic, which walks along it at its own pace.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::task::coop;
use tokio::time::Instant;

use super::Topic;
use super::ring::{Cursor, Evicted, Parked, Ring, merged};
use crate::batch::{Batch, Entry, RUN, Taken};
use crate::engine::defect::{Defect, seeded};
use crate::engine::sync::register;
use crate::error::{CloseReason, Gap};
use crate::message::{Run, Text};

/// One reader of a topic. Dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(super) walk: Walk,
    pub(super) topic: Arc<Topic>,
}

/// How far a reader has come. Apart from the topic, whose lock is held while this changes.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The cursor, for others to see.
    pub(super) at: Arc<AtomicU64>,
    /// The batch that `cursor` is in.
    pub(super) batch: Option<Arc<Batch>>,
    pub(super) cursor: u64,
    /// The same batch, as this reader alone holds it, once that has paid.
    pub(super) run: OnceLock<Arc<Run>>,
    pub(super) ended: bool,
    /// Index of the first notice not met yet.
    pub(super) notice: u64,
    pub(super) number: u64,
    /// What comes before anything else: the breaks within a lag.
    pub(super) pending: Option<Box<Gap>>,
    pub(super) place: usize,
    /// A batch whose last message came before this reader, and is yielded before all else.
    pub(super) replay: Option<Arc<Batch>>,
    /// Whether that was the last thing yielded.
    pub(super) replayed: bool,
}

/// What a reader comes to next. Small, since it is handed from function to function with each batch:
/// what is rare is boxed.
#[derive(Debug)]
pub(crate) enum Next {
    /// The stream is over.
    Closed(Box<CloseReason>),
    Gap(Box<Gap>),
    /// [`Reader::take`] has it.
    Message,
}

impl Reader {
    pub(super) fn new(topic: &Arc<Topic>) -> Self {
        let mut ring = topic.ring.lock();
        let (cursor, number) = (ring.next, ring.next_reader);
        ring.next_reader += 1;
        let at = Arc::new(AtomicU64::new(cursor));
        let place = ring.readers.insert(Parked { at: Arc::clone(&at), waker: None });
        let notice = ring.notices_gone; // Those that are there tell of what was before it.
        if seeded(Defect::ReplayInTwoSteps) {
            drop(ring);
            ring = topic.ring.lock();
        }
        let replay = ring.latest().filter(|_| topic.settings.replay_latest).map(Arc::clone);
        drop(ring);
        let walk = Walk {
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
            run: OnceLock::new(),
        };
        Self { topic: Arc::clone(topic), walk }
    }

    /// What comes next; `None` after the end.
    #[inline]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        if self.has_message() {
            return Poll::Ready(Some(Next::Message));
        }
        self.poll_refill(cx)
    }

    /// The same, for a reader that has read its batch.
    pub(crate) fn poll_refill(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        if self.walk.ended {
            return Poll::Ready(None);
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
    #[inline]
    pub(crate) fn next_now(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        if self.has_message() {
            return Some(Next::Message);
        }
        self.refill_now(cx)
    }

    fn refill_now(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        if self.walk.ended || !coop::has_budget_remaining() {
            return None;
        }
        let Poll::Ready(coop) = coop::poll_proceed(cx) else { return None };
        let next = self.refill(None)?;
        coop.made_progress();
        Some(next)
    }

    /// Whether there is a message left of the batch that it is in.
    pub(crate) fn has_message(&self) -> bool {
        self.walk.batch.as_ref().is_some_and(|batch| self.walk.cursor < batch.end())
    }

    /// Steps to what comes next; if there is nothing, asks for `parking` to be woken by it.
    fn refill(&mut self, parking: Option<&Context<'_>>) -> Option<Next> {
        drop(self.walk.batch.take());
        drop(self.walk.run.take());
        let next = self.step(parking)?;
        self.walk.replayed = false;
        Some(next)
    }

    fn step(&mut self, parking: Option<&Context<'_>>) -> Option<Next> {
        if self.walk.replay.is_some() {
            return Some(Next::Message);
        }
        if let Some(gap) = self.walk.pending.take() {
            return Some(Next::Gap(gap));
        }
        let replaced = {
            let mut ring = self.topic.ring.lock();
            if let Some(next) = self.walk.advance(&mut ring) {
                drop(ring);
                match &next {
                    Next::Gap(gap) if matches!(**gap, Gap::Lagged { .. }) => {
                        self.topic.counted(gap);
                    }
                    _ => {}
                }
                return Some(next);
            }
            if seeded(Defect::ParkInTwoSteps) {
                drop(ring);
                ring = self.topic.ring.lock();
            }
            parking.and_then(|cx| register(&mut ring.readers[self.walk.place].waker, cx))
        };
        drop(replaced);
        None
    }

    /// The message that [`poll_next`](Self::poll_next) has announced, and steps over it.
    pub(crate) fn take<T>(&mut self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        if self.walk.batch.is_none() {
            return self.take_replay(read);
        }
        self.here().map(|entry| read(&entry))
    }

    /// The next message of the batch that this reader is in, if there is one, and steps over it: the
    /// short way to almost all messages.
    #[inline]
    pub(crate) fn here(&mut self) -> Option<Entry<'_>> {
        let batch = self.walk.batch.as_ref()?;
        let (index, len) = ((self.walk.cursor - batch.first) as usize, batch.messages.len());
        if index >= len {
            return None;
        }
        self.walk.cursor += 1; // Before the user's code runs: a panic in it costs one message.
        self.walk.at.store(self.walk.cursor, Relaxed);
        // For fewer messages, it would cost more than it saves.
        let run = (len >= RUN).then_some(&self.walk.run);
        Some(Entry::new(batch, index).within(run))
    }

    /// The next message, if it is a small text of the batch that this reader is in, and others of that
    /// batch were copied for it. Steps over it. So little code that it becomes a part of the reading
    /// program's loop, in which a message need not be moved about in memory.
    #[inline]
    pub(crate) fn text(&mut self) -> Option<Text> {
        let (batch, run) = (self.walk.batch.as_ref()?, self.walk.run.get()?);
        let text = run.text((self.walk.cursor - batch.first) as usize)?;
        self.walk.cursor += 1;
        self.walk.at.store(self.walk.cursor, Relaxed);
        Some(text)
    }

    /// The message that [`poll_next`](Self::poll_next) has announced with those of its batch that
    /// follow on it, `limit` at most, and steps over them.
    pub(crate) fn take_many(&mut self, limit: usize) -> Option<Taken> {
        let Some(batch) = self.walk.batch.take() else {
            let batch = self.walk.replay.take()?;
            self.walk.replayed = true;
            return Some(Taken::replay(batch));
        };
        let from = self.walk.cursor;
        self.walk.cursor = batch.end().min(from.saturating_add(limit as u64));
        self.walk.at.store(self.walk.cursor, Relaxed);
        if self.walk.cursor < batch.end() {
            self.walk.batch = Some(Arc::clone(&batch));
        }
        Some(Taken::new(batch, from, limit))
    }

    fn take_replay<T>(&mut self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let batch = self.walk.replay.take()?;
        self.walk.replayed = true;
        Some(read(&Entry::last(&batch)?.replayed()))
    }

    /// Whether what was yielded last came before this reader did.
    pub(crate) fn is_replayed(&self) -> bool {
        self.walk.replayed
    }

    /// When the message last [taken](Self::take) was read from the socket.
    pub(crate) fn received_at(&self) -> Option<Instant> {
        self.walk.batch.as_ref().map(|batch| batch.received_at)
    }

    /// Whether the end has been met.
    pub(crate) fn is_ended(&self) -> bool {
        self.walk.ended
    }

    /// How many messages are published that this reader has not come to.
    pub(crate) fn lag(&self) -> u64 {
        self.topic.ring.lock().next - self.walk.cursor
    }
}

impl Walk {
    /// Steps to what comes next, if there is anything.
    fn advance(&mut self, ring: &mut Ring) -> Option<Next> {
        let mut place = Cursor { notice: &mut self.notice, number: self.number };
        if let Some(gap) = ring.next_notice(&mut place, self.cursor) {
            return Some(Next::Gap(Box::new(gap)));
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
                self.pending = Some(Box::new(match self.pending.take() {
                    Some(earlier) => merged(*earlier, gap),
                    None => gap,
                }));
            }
            return Some(Next::Gap(Box::new(Gap::Lagged { missed })));
        }
        if let Some(batch) = ring.batch_at(self.cursor) {
            self.batch = Some(Arc::clone(batch));
            return Some(Next::Message);
        }
        let reason = ring.closed.clone()?;
        self.ended = true;
        Some(Next::Closed(reason))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (parked, evicted) = {
            let mut ring = self.topic.ring.lock();
            let parked = ring.readers.remove(self.walk.place);
            let mut evicted = Evicted::new();
            ring.trim(&self.topic.settings, &mut evicted);
            (parked, evicted)
        };
        drop((parked, evicted));
    }
}
