//! Many requests at once.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use futures::stream::{FusedStream, FuturesUnordered, Stream, StreamExt as _};

use super::asked::Asked;
use super::call::Call;
use super::defect::{Defect, seeded};
use super::shared::Shared;
use crate::error::RequestError;
use crate::manager::Reply;

/// The results of many requests: see [`RequestPool::batch`](super::RequestPool::batch).
#[must_use = "nothing happens before it is polled"]
pub struct Batch {
    /// Results that came before one that goes first.
    early: BTreeMap<usize, Result<Reply, RequestError>>,
    /// Whether it begins no more, for now.
    is_held: bool,
    /// The next that is yielded, in order of input.
    next: usize,
    order: Order,
    progress: Progress,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
    shared: Arc<Shared>,
    /// Those that have not begun.
    waiting: std::iter::Enumerate<std::vec::IntoIter<Call>>,
    /// Who waits for it to go on.
    waker: Option<Waker>,
}

struct Ended {
    asked: Asked,
    /// If it filled its group.
    epoch: Option<u64>,
    index: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Completion,
    Input,
}

/// How one request of a batch ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BatchItem {
    /// Its place in what was given to [`batch`](super::RequestPool::batch), from 0.
    pub index: usize,
    /// How it ended. What fails is this request's affair: the others go on.
    pub outcome: Result<Reply, RequestError>,
    /// How far the batch is, with this one.
    pub progress: Progress,
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Requests that have ended, well or not.
    pub done: usize,
    /// Those of them that failed.
    pub failed: usize,
    /// All of them.
    pub total: usize,
}

/// In order of input, how many results may be begun ahead of the one that is waited for, in groups.
const AHEAD: usize = 4;

impl Batch {
    pub(super) fn new(shared: Arc<Shared>, calls: Vec<Call>) -> Self {
        let progress = Progress { total: calls.len(), ..Progress::default() };
        Self {
            early: BTreeMap::new(),
            is_held: false,
            next: 0,
            order: Order::Completion,
            progress,
            running: FuturesUnordered::new(),
            shared,
            waiting: calls.into_iter().enumerate(),
            waker: None,
        }
    }

    /// Yields the results in the order of the requests, rather than as they come: one that is late holds
    /// those behind it back, and once four groups are ahead of it, no more is begun. Progress counts what
    /// was yielded.
    pub fn in_order(mut self) -> Self {
        self.order = Order::Input;
        self
    }

    /// How far it is: what was yielded.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Has it begin no more requests until it is to [go on](Self::go_on). What is in flight comes as ever,
    /// so no place of the pool is kept for who has no room for results: not to poll the batch would keep
    /// them.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Has it begin requests again.
    pub fn go_on(&mut self) {
        self.is_held = false;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Begins what fits into the group.
    fn begin(&mut self) {
        if self.is_held {
            return;
        }
        let (size, epoch) = self.shared.pace();
        let size = if seeded(Defect::BatchIsOneGroup) { usize::MAX } else { size };
        while self.running.len() < size && self.may_go_ahead(size) {
            let Some((index, call)) = self.waiting.next() else { return };
            let shared = Arc::clone(&self.shared);
            let epoch = (self.running.len() + 1 == size).then_some(epoch);
            self.running.push(Box::pin(async move {
                Ended { asked: shared.ask(call, size).await, epoch, index }
            }));
        }
    }

    fn may_go_ahead(&self, size: usize) -> bool {
        self.order == Order::Completion || self.early.len() < AHEAD.saturating_mul(size)
    }

    fn item(&mut self, index: usize, outcome: Result<Reply, RequestError>) -> BatchItem {
        self.next += 1;
        self.progress.done += 1;
        let counts = outcome.is_err() && !seeded(Defect::FailureIsNotCounted);
        self.progress.failed += usize::from(counts);
        BatchItem { index, outcome, progress: self.progress }
    }
}

impl Stream for Batch {
    type Item = BatchItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BatchItem>> {
        loop {
            self.begin();
            let next = self.next;
            if let Some(outcome) = self.early.remove(&next) {
                return Poll::Ready(Some(self.item(next, outcome)));
            }
            let Ended { asked, epoch, index } = match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(ended)) => ended,
                Poll::Ready(None) if self.is_held && self.waiting.len() > 0 => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(None) => return Poll::Ready(None), // Nothing runs: nothing waits either.
                Poll::Pending => return Poll::Pending,
            };
            if let Some(epoch) = epoch {
                self.shared.record(epoch, &asked, self.waiting.len());
            }
            if self.order == Order::Completion || seeded(Defect::OrderIsLost) {
                return Poll::Ready(Some(self.item(index, asked.outcome)));
            }
            self.early.insert(index, asked.outcome);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.progress.total - self.progress.done;
        (left, Some(left))
    }
}

impl FusedStream for Batch {
    fn is_terminated(&self) -> bool {
        self.progress.done == self.progress.total
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("progress", &self.progress)
            .field("in_flight", &self.running.len())
            .finish_non_exhaustive()
    }
}
