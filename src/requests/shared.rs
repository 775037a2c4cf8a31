//! A request's way through the pool.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::call::Call;
use super::config::PoolConfig;
use super::counts::{Counts, PoolStats};
use super::lanes::{Lanes, Place};
use crate::error::{RequestError, SendError};
use crate::manager::{Replies, Reply};
use crate::observe::Status;

pub(super) struct Shared {
    pub(super) config: PoolConfig,
    counts: Counts,
    pub(super) lanes: Arc<Lanes>,
}

impl Shared {
    pub(super) fn new(config: PoolConfig, lanes: Arc<Lanes>) -> Self {
        Self { config, counts: Counts::default(), lanes }
    }

    /// Has `call` answered on one of the first `width` connections, made again where that is allowed.
    pub(super) async fn ask(&self, call: Call, width: usize) -> Result<Reply, RequestError> {
        let deadline = self.deadline(&call);
        let mut resends = Resends::of(self, &call);
        let outcome = loop {
            match self.ask_once(&call, width, deadline).await {
                Err(e) if resends.allow(&e, deadline) => {}
                outcome => break outcome,
            }
        };
        self.counts.ended(outcome.as_ref().map(drop));
        outcome
    }

    async fn ask_once(
        &self,
        call: &Call,
        width: usize,
        deadline: Instant,
    ) -> Result<Reply, RequestError> {
        let (place, mut replies) = self.begin(call, width, deadline).await?;
        let outcome = timeout_at(deadline, replies.whole()).await;
        outcome.unwrap_or_else(|_| Err(overdue(replies))).map_err(|e| explained(e, &place))
    }

    /// Makes the request, once it has a place.
    pub(super) async fn begin(
        &self,
        call: &Call,
        width: usize,
        deadline: Instant,
    ) -> Result<(Place, Replies), RequestError> {
        let waiting = self.counts.wait();
        let place = timeout_at(deadline, self.lanes.place(width)).await;
        drop(waiting);
        let place = place.map_err(|_| SendError::Expired)?.map_err(RequestError::NotOpened)?;
        let replies = self.lanes.manager.request_parts(place.name(), call.body.clone());
        Ok((place, replies))
    }

    pub(super) fn deadline(&self, call: &Call) -> Instant {
        Instant::now() + call.deadline.unwrap_or(self.config.deadline)
    }

    pub(super) fn stats(&self) -> PoolStats {
        self.counts.read(self.lanes.load(), self.lanes.stages())
    }

    pub(super) fn ended(&self, outcome: Result<(), &RequestError>) {
        self.counts.ended(outcome);
    }
}

/// What it means that the deadline came before the reply.
pub(super) fn overdue(replies: Replies) -> RequestError {
    match replies.take_back() {
        true => SendError::Expired.into(),
        false => RequestError::TimedOut,
    }
}

/// Says why there was no connection, where that is what failed.
pub(super) fn explained(error: RequestError, place: &Place) -> RequestError {
    match (error, place.lease.status()) {
        (RequestError::NotSent(SendError::Closed | SendError::NotOpen), Status::Closed(reason)) => {
            RequestError::NotConnected(Arc::new(reason))
        }
        (error, _) => error,
    }
}

/// How often a call may still be made again.
pub(super) struct Resends<'a> {
    counts: &'a Counts,
    left: u32,
}

impl<'a> Resends<'a> {
    pub(super) fn of(shared: &'a Shared, call: &Call) -> Self {
        let left = if call.idempotent { shared.config.resends } else { 0 };
        Self { counts: &shared.counts, left }
    }

    pub(super) fn allow(&mut self, error: &RequestError, deadline: Instant) -> bool {
        let is_lost = matches!(error, RequestError::Unknown | RequestError::TimedOut);
        let allowed = is_lost && self.left > 0 && Instant::now() < deadline;
        if allowed {
            self.left -= 1;
            self.counts.resent();
        }
        allowed
    }
}
