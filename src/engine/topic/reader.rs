//! One reader of a topic, which walks along it at its own pace.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::task::coop;
use tokio::time::Instant;

use super::Topic;
use super::ring::{Cursor, Ring, merged};
use crate::batch::{Batch, Entry, RUN, Taken};
use crate::engine::defect::{Defect, seeded};
use crate::engine::sync::register;
use crate::error::{CloseReason, Gap};
use crate::message::Run;

/// One reader of a topic. Dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Reader {
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
    pub(super) topic: Arc<Topic>,
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
    #[inline]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        if self.has_message() {
            return Poll::Ready(Some(Next::Message));
        }
        self.poll_refill(cx)
    }

    fn poll_refill(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        if self.ended {
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
        if self.ended || !coop::has_budget_remaining() {
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
        drop(self.run.take());
        let next = self.step(parking)?;
        self.replayed = false;
        Some(next)
    }

    fn step(&mut self, parking: Option<&Context<'_>>) -> Option<Next> {
        if self.replay.is_some() {
            return Some(Next::Message);
        }
        if let Some(gap) = self.pending.take() {
            return Some(Next::Gap(*gap));
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
                self.pending = Some(Box::new(match self.pending.take() {
                    Some(earlier) => merged(*earlier, gap),
                    None => gap,
                }));
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
        if self.batch.is_none() {
            return self.take_replay(read);
        }
        self.take_here(read)
    }

    /// The next message of the batch that this reader is in, if there is one, and steps over it: the
    /// short way to almost all messages.
    #[inline]
    pub(crate) fn take_here<T>(&mut self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let batch = self.batch.as_ref()?;
        let (index, len) = ((self.cursor - batch.first) as usize, batch.messages.len());
        if index >= len {
            return None;
        }
        self.cursor += 1; // Before the user's code runs: a panic in it costs one message.
        self.at.store(self.cursor, Relaxed);
        // For fewer messages, it would cost more than it saves.
        let run = (len >= RUN).then_some(&self.run);
        Some(read(&Entry::new(batch, index).within(run)))
    }

    /// The message that [`poll_next`](Self::poll_next) has announced with those of its batch that
    /// follow on it, `limit` at most, and steps over them.
    pub(crate) fn take_many(&mut self, limit: usize) -> Option<Taken> {
        let Some(batch) = self.batch.take() else {
            let batch = self.replay.take()?;
            self.replayed = true;
            return Some(Taken::replay(batch));
        };
        let from = self.cursor;
        self.cursor = batch.end().min(from.saturating_add(limit as u64));
        self.at.store(self.cursor, Relaxed);
        if self.cursor < batch.end() {
            self.batch = Some(Arc::clone(&batch));
        }
        Some(Taken::new(batch, from, limit))
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
