//! A request's way through the pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout_at};

use super::asked::Asked;
#[cfg(feature = "cache")]
use super::cache::Cache;
use super::call::Call;
use super::config::{NEVER, PoolConfig};
use super::counts::{Counts, PoolStats};
use super::defect::{Defect, seeded};
use super::lanes::{Lanes, Place};
use super::pace::Pace;
use super::stray::Stray;
use crate::error::{RequestError, SendError};
use crate::manager::Replies;
use crate::observe::Status;

pub(super) struct Shared {
    #[cfg(feature = "cache")]
    pub(super) cache: Option<Arc<Cache>>,
    pub(super) config: PoolConfig,
    counts: Counts,
    pub(super) lanes: Arc<Lanes>,
    /// How much of a batch is in flight at once: what one has learned, the next one begins with.
    pace: Mutex<Pace>,
}

impl Shared {
    pub(super) fn new(config: PoolConfig, lanes: Arc<Lanes>) -> Self {
        let places = config.connections * config.in_flight;
        let (least, most) = config.batch_bounds;
        let pace = Pace::new(config.batch_size, (least.min(places), most.min(places)));
        Self {
            #[cfg(feature = "cache")]
            cache: None,
            config,
            counts: Counts::default(),
            lanes,
            pace: Mutex::new(pace),
        }
    }

    #[cfg(feature = "cache")]
    pub(super) fn with_cache(self, cache: Option<Arc<Cache>>) -> Self {
        Self { cache, ..self }
    }

    /// Has `call` answered: by what is kept, where it says so, or by the server.
    pub(super) async fn ask(self: &Arc<Self>, call: Call, at_once: usize) -> Asked {
        #[cfg(feature = "cache")]
        if let (Some(cache), Some(key)) = (&self.cache, &call.key) {
            let (key, deadline) = (Arc::clone(key), self.deadline(&call));
            let shared = Arc::clone(self);
            let ask = move || Box::pin(async move { shared.ask_server(call, at_once).await }) as _;
            return cache.get(key, deadline, ask).await;
        }
        self.ask_server(call, at_once).await
    }

    /// Has `call` answered, made again where that is allowed, on as many connections as `at_once`
    /// requests want.
    async fn ask_server(&self, call: Call, at_once: usize) -> Asked {
        let (deadline, width) = (self.deadline(&call), at_once.div_ceil(self.config.fill));
        let mut resends = Resends::of(self, &call);
        let asked = loop {
            let mut asked = self.ask_once(&call, width, deadline).await;
            if asked.outcome.as_ref().is_err_and(|e| resends.allow(e, deadline)) {
                continue;
            }
            asked.outcome = asked.outcome.map_err(|e| resends.whole_truth(e));
            break asked;
        };
        self.counts.ended(asked.outcome.as_ref().map(drop));
        asked
    }

    async fn ask_once(&self, call: &Call, width: usize, deadline: Instant) -> Asked {
        let (mut place, mut replies) = match self.begin(call, width, deadline).await {
            Ok(begun) => begun,
            Err(e) => return Asked::unmeasured(Err(e)),
        };
        let (begun_at, was_open) = (Instant::now(), place.lease.status().is_open());
        let mut has_moved = false;
        let outcome = timeout_at(deadline, async {
            has_moved = self.arrived(call, &mut place, &mut replies).await;
            replies.whole().await
        });
        let outcome = outcome.await;
        let outcome =
            outcome.unwrap_or_else(|_| Err(overdue(replies))).map_err(|e| explained(e, &place));
        Asked { outcome, took: (was_open && !has_moved).then(|| begun_at.elapsed()) }
    }

    /// Waits until there is something of a reply. If its connection fails or ends before the request was
    /// written, it goes to another that is open; returns whether it did.
    pub(super) async fn arrived(
        &self,
        call: &Call,
        place: &mut Place,
        replies: &mut Replies,
    ) -> bool {
        let (mut stray, mut has_moved) = (Stray::of(place), false);
        loop {
            let berth = tokio::select! {
                biased; // What is answered does not move.
                () = replies.arrived() => {
                    let ended = replies.failure().is_some_and(is_stranded);
                    let refuge = if ended { Stray::refuge(&self.lanes).await } else { None };
                    let Some(berth) = refuge else { return has_moved };
                    berth
                }
                berth = stray.elsewhere(&self.lanes, place) => {
                    if !replies.withdraw() && !seeded(Defect::WrittenMoves) {
                        stray.stays();
                        continue;
                    }
                    berth
                }
            };
            place.go_to(berth);
            *replies = self.lanes.manager.request_parts(place.name(), call.body.clone());
            (stray, has_moved) = (Stray::of(place), true);
            self.counts.moved();
        }
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
        let within = call.deadline.unwrap_or(self.config.deadline);
        Instant::now() + if seeded(Defect::DeadlineIsForgotten) { NEVER } else { within }
    }

    /// How many requests of a batch may be in flight now, and what they are to be recorded with.
    pub(super) fn pace(&self) -> (usize, u64) {
        let pace = self.lock_pace();
        (pace.size(), pace.epoch())
    }

    /// A request of a batch has ended, of which `left` have not begun.
    pub(super) fn record(&self, epoch: u64, asked: &Asked, left: usize) {
        if let Some(took) = asked.took {
            self.lock_pace().record(epoch, took, asked.outcome.is_ok(), left);
        }
    }

    pub(super) fn stats(&self) -> PoolStats {
        let batch_size = self.lock_pace().size();
        let width = batch_size.div_ceil(self.config.fill).min(self.config.connections);
        let batch = (batch_size, width);
        self.counts.read(self.lanes.load(), self.lanes.stages(), batch)
    }

    fn lock_pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ended(&self, outcome: Result<(), &RequestError>) {
        self.counts.ended(outcome);
    }
}

/// What it means that the deadline came before the reply.
pub(super) fn overdue(replies: Replies) -> RequestError {
    if let Some(error) = replies.failure().filter(|error| is_stranded(error)) {
        return error.clone(); // It waited for another connection ever since.
    }
    match replies.take_back() {
        true => SendError::Expired.into(),
        false => RequestError::TimedOut,
    }
}

/// Whether its connection ended before the request was written.
fn is_stranded(error: &RequestError) -> bool {
    matches!(error, RequestError::NotSent(SendError::Closed | SendError::NotOpen))
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
    /// How it was lost the last time.
    lost: Option<RequestError>,
}

impl<'a> Resends<'a> {
    pub(super) fn of(shared: &'a Shared, call: &Call) -> Self {
        let may = (call.idempotent && !seeded(Defect::NothingIsResent))
            || seeded(Defect::UnknownIsResent);
        let left = if may { shared.config.resends } else { 0 };
        Self { counts: &shared.counts, left, lost: None }
    }

    /// How a call ended of which `error` is the last: that nothing was written at last says nothing of
    /// what was written before.
    pub(super) fn whole_truth(self, error: RequestError) -> RequestError {
        let lost = self.lost.filter(|_| error.is_unsent() && !seeded(Defect::LossIsForgotten));
        lost.unwrap_or(error)
    }

    pub(super) fn allow(&mut self, error: &RequestError, deadline: Instant) -> bool {
        let is_lost = matches!(error, RequestError::Unknown | RequestError::TimedOut)
            || (seeded(Defect::RefusedIsResent) && matches!(error, RequestError::Failed(_)));
        let allowed = is_lost && self.left > 0 && Instant::now() < deadline;
        if allowed {
            self.left -= 1;
            self.lost = Some(error.clone());
            self.counts.resent();
        }
        allowed
    }
}
