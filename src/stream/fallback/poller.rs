//! Polls while a stream is down: after a grace, one at a time, at intervals that double.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Sleep, sleep, timeout};

use super::policy::FallbackPolicy;
use crate::name::StreamName;

/// The shortest interval, whatever a policy says: no poll makes a hot loop.
const FLOOR: Duration = Duration::from_millis(1);

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;
pub(super) type Fetch<T> = BoxFuture<'static, Result<Vec<T>, BoxError>>;

pub(super) struct Poller<T> {
    failures: u64,
    fetch: Box<dyn FnMut() -> Fetch<T> + Send>,
    last_error: Option<BoxError>,
    name: StreamName,
    phase: Phase<T>,
    pub(super) policy: FallbackPolicy,
    polls: u64,
}

enum Phase<T> {
    /// The stream has just gone down.
    Grace(Pin<Box<Sleep>>),
    Live,
    Polling {
        fetch: Option<Fetch<T>>,
        interval: Duration,
        /// When the next poll is due.
        next: Pin<Box<Sleep>>,
    },
}

/// A poll in the form in which it is kept.
pub(super) fn boxed<T, Fut, I, E>(poll: Fut, limit: Duration) -> Fetch<T>
where
    Fut: Future<Output = Result<I, E>> + Send + 'static,
    I: IntoIterator<Item = T>,
    E: Into<BoxError>,
{
    Box::pin(async move {
        match timeout(limit, poll).await {
            Ok(Ok(items)) => Ok(items.into_iter().collect()),
            Ok(Err(e)) => Err(e.into()),
            Err(e) => Err(e.into()),
        }
    })
}

impl<T> Poller<T> {
    pub(super) fn new(
        fetch: Box<dyn FnMut() -> Fetch<T> + Send>,
        name: StreamName,
        policy: FallbackPolicy,
    ) -> Self {
        let phase = Phase::Live;
        Self { failures: 0, fetch, last_error: None, name, phase, policy, polls: 0 }
    }

    /// The stream is live: drops a poll that is under way.
    pub(super) fn live(&mut self) {
        self.phase = Phase::Live;
    }

    /// The stream is down, since now if it was live.
    pub(super) fn down(&mut self) {
        if let Phase::Live = self.phase {
            self.phase = Phase::Grace(Box::pin(sleep(self.policy.grace)));
        }
    }

    /// What the next poll that succeeds brings. Pends while the stream is live.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Vec<T>> {
        loop {
            let interval = match &mut self.phase {
                Phase::Live => return Poll::Pending,
                Phase::Grace(grace) => {
                    ready!(grace.as_mut().poll(cx));
                    self.policy.first_interval
                }
                Phase::Polling { fetch, interval, next } => {
                    // Taken out: one that panics is over, too.
                    if let Some(mut polling) = fetch.take() {
                        let Poll::Ready(outcome) = polling.as_mut().poll(cx) else {
                            *fetch = Some(polling);
                            return Poll::Pending;
                        };
                        if let Some(items) = self.over(outcome) {
                            return Poll::Ready(items);
                        }
                        continue;
                    }
                    ready!(next.as_mut().poll(cx));
                    interval.saturating_mul(2)
                }
            };
            self.begin(interval.min(self.policy.max_interval).max(FLOOR));
        }
    }

    fn begin(&mut self, interval: Duration) {
        self.polls += 1;
        let next = Box::pin(sleep(interval));
        self.phase = Phase::Polling { fetch: Some((self.fetch)()), interval, next };
    }

    fn over(&mut self, outcome: Result<Vec<T>, BoxError>) -> Option<Vec<T>> {
        match outcome {
            Ok(items) => {
                self.last_error = None;
                Some(items)
            }
            Err(error) => {
                self.failures += 1;
                tracing::warn!(name = %self.name, poll = self.polls, %error, "poll failed");
                self.last_error = Some(error);
                None
            }
        }
    }

    pub(super) fn is_polling(&self) -> bool {
        matches!(self.phase, Phase::Polling { .. })
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    pub(super) fn last_error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.last_error.as_deref()
    }

    pub(super) fn polls(&self) -> u64 {
        self.polls
    }
}

impl<T> fmt::Debug for Poller<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("failures", &self.failures)
            .field("is_polling", &self.is_polling())
            .field("last_error", &self.last_error)
            .field("policy", &self.policy)
            .field("polls", &self.polls)
            .finish_non_exhaustive()
    }
}
