//! Fetches snapshots: not before the stream is joined, one at a time, and again when it fails.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::Stream as _;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::config::{Backoff, RetryPolicy};
use crate::error::{CloseReason, SnapshotError};
use crate::name::StreamName;
use crate::stream::StatusStream;

/// The shortest time between two fetches, whatever a policy says: no fetch makes a hot loop.
const FLOOR: Duration = Duration::from_millis(1);

pub(super) type Fetch<S> = BoxFuture<'static, Result<S, SnapshotError>>;

pub(super) struct Fetcher<S> {
    backoff: Backoff,
    begun: Option<Instant>,
    fetches: u64,
    get: Box<dyn FnMut() -> Fetch<S> + Send>,
    last_error: Option<SnapshotError>,
    /// Shortest time between the starts of two fetches.
    min_delay: Duration,
    name: StreamName,
    phase: Phase<S>,
    status: StatusStream,
}

enum Phase<S> {
    Fetching(Fetch<S>),
    /// Begins as soon as the stream is joined.
    Idle,
    Waiting(Pin<Box<Sleep>>),
}

/// A fetch in the form in which it is kept.
pub(super) fn boxed<S, Fut, E>(fetch: Fut, limit: Duration) -> Fetch<S>
where
    Fut: Future<Output = Result<S, E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    Box::pin(async move {
        match timeout(limit, fetch).await {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(e)) => Err(SnapshotError::Failed(Arc::from(e.into()))),
            Err(_) => Err(SnapshotError::TimedOut { after: limit }),
        }
    })
}

impl<S> Fetcher<S> {
    pub(super) fn new(
        get: Box<dyn FnMut() -> Fetch<S> + Send>,
        name: StreamName,
        retry: RetryPolicy,
        seed: u64,
        status: StatusStream,
    ) -> Self {
        Self {
            begun: None,
            fetches: 0,
            get,
            last_error: None,
            min_delay: retry.min_delay.max(FLOOR),
            backoff: Backoff::new(retry, seed),
            name,
            phase: Phase::Idle,
            status,
        }
    }

    /// A snapshot, or why there will be none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<S, CloseReason>> {
        loop {
            match &mut self.phase {
                Phase::Idle => {
                    ready!(self.poll_joined(cx));
                    let wait = self.begun.map_or(Duration::ZERO, |begun| {
                        self.min_delay.saturating_sub(begun.elapsed())
                    });
                    if wait.is_zero() {
                        self.begin();
                    } else {
                        self.phase = Phase::Waiting(Box::pin(sleep(wait)));
                    }
                }
                Phase::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.phase = Phase::Idle;
                }
                Phase::Fetching(_) => match ready!(self.poll_fetch(cx)) {
                    Ok(snapshot) => return Poll::Ready(Ok(snapshot)),
                    Err(error) => {
                        if let Some(reason) = self.failed(error) {
                            return Poll::Ready(Err(reason));
                        }
                    }
                },
            }
        }
    }

    fn poll_joined(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.status.current().is_open() {
            if ready!(Pin::new(&mut self.status).poll_next(cx)).is_none() {
                return Poll::Pending; // The stream's end is its last item.
            }
        }
        Poll::Ready(())
    }

    /// Goes on with the fetch that is under way. One that panics is over, too.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Result<S, SnapshotError>> {
        let mut phase = mem::replace(&mut self.phase, Phase::Idle);
        let Phase::Fetching(fetch) = &mut phase else { return Poll::Pending };
        let polled = fetch.as_mut().poll(cx);
        if polled.is_pending() {
            self.phase = phase;
        }
        polled
    }

    fn begin(&mut self) {
        self.begun = Some(Instant::now());
        self.fetches += 1;
        tracing::debug!(name = %self.name, fetch = self.fetches, "fetching a snapshot");
        self.phase = Phase::Fetching((self.get)());
    }

    /// Waits before the next fetch, or says that there will be none.
    pub(super) fn failed(&mut self, error: SnapshotError) -> Option<CloseReason> {
        let attempts = self.backoff.attempt();
        self.last_error = Some(error.clone());
        let Some(delay) = self.backoff.next() else {
            self.phase = Phase::Idle;
            return Some(CloseReason::NoSnapshot { attempts, last: error });
        };
        let (name, delay) = (&self.name, delay.max(FLOOR));
        if attempts == 1 && matches!(error, SnapshotError::TooOld) {
            // As it should be, where a venue's feed is faster than its snapshots.
            tracing::debug!(%name, ?delay, %error, "no snapshot yet");
        } else {
            tracing::warn!(%name, attempt = attempts, ?delay, %error, "no snapshot");
        }
        self.phase = Phase::Waiting(Box::pin(sleep(delay)));
        None
    }

    /// The snapshot is good.
    pub(super) fn succeeded(&mut self) {
        self.backoff.record_uptime(Duration::MAX);
        self.last_error = None;
    }

    /// Drops the fetch that is under way. What failed before it still has to wait.
    pub(super) fn void(&mut self) {
        if let Phase::Fetching(_) = self.phase {
            self.phase = Phase::Idle;
        }
    }

    /// The number of the fetch that is under way.
    pub(super) fn in_flight(&self) -> Option<u64> {
        matches!(self.phase, Phase::Fetching(_)).then_some(self.fetches)
    }

    pub(super) fn fetches(&self) -> u64 {
        self.fetches
    }

    pub(super) fn last_error(&self) -> Option<&SnapshotError> {
        self.last_error.as_ref()
    }
}

impl<S> fmt::Debug for Fetcher<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("fetches", &self.fetches)
            .field("in_flight", &self.in_flight().is_some())
            .field("last_error", &self.last_error)
            .finish_non_exhaustive()
    }
}
