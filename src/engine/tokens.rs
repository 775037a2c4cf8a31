//! The tokens of one manager: when its provider is asked, and how long what it says is used.
//!
//! # Invariants
//!
//! 1. The provider is asked by one call at a time, whose outcome all share who want a token then.
//! 2. A token is not used once it was refused or given up: no call that began before that counts.
//! 3. A token that expires is used again only while both clocks say that it is fresh: the monotonic
//!    one, which does not jump, and the wall clock, which has seen the machine sleep. Where they are
//!    wrong, the server's refusal is what counts.
//! 4. Renewals that fail are paced for all connections together. Dials are paced by their own
//!    retries.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::{self, Instant};

use super::flight::SingleFlight;
use super::sync::Mutex;
use crate::config::{
    Backoff, Cause, Config, Credentials, FirstRetry, NEVER, NoToken, Place, RetryPolicy, Secret,
    Token, TokenReason,
};

/// The shortest time from a token to its renewal, however soon it expires.
const SOONEST: Duration = Duration::from_secs(5);

/// How often an open socket looks at the wall clock.
const LOOK: Duration = Duration::from_secs(60);

/// Handed out to a manager's connections. Clones are the same.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Shared>);

struct Shared {
    credentials: Credentials,
    flight: SingleFlight<Result<Issued, NoToken>>,
    refresh: Duration,
    state: Mutex<State>,
    timeout: Duration,
    wall: fn() -> SystemTime,
}

struct State {
    /// Paces renewals that fail.
    backoff: Backoff,
    /// Number of the latest call.
    calls: u64,
    /// The latest token, if it may be used again.
    held: Option<Issued>,
    /// What came of earlier calls is not used any more.
    oldest: u64,
    /// Whether the server refused a token, and no other was asked for since.
    refused: bool,
    /// Until then, nothing is renewed.
    renewals_wait_until: Option<Instant>,
}

/// A token in use.
#[derive(Clone, Debug)]
pub(crate) struct Issued(Arc<Issue>);

#[derive(Debug)]
struct Issue {
    /// The call that it came of.
    call: u64,
    life: Option<Life>,
    secret: Secret,
}

/// How long a token is used.
#[derive(Clone, Copy, Debug)]
struct Life {
    expires_at: SystemTime,
    /// How long before its expiry it is not used any more.
    margin: Duration,
    renew_at: Instant,
}

impl Issued {
    pub(crate) fn secret(&self) -> &Secret {
        &self.0.secret
    }

    /// The longest time by which a socket may renew it early.
    pub(crate) fn jitter(&self) -> Duration {
        self.0.life.map(|life| life.margin / 2).unwrap_or_default()
    }
}

impl Life {
    /// The life of a token that expires at `expires_at`; none if that has passed, since then one of
    /// the clocks is wrong, and renewing it would not end.
    fn new(expires_at: SystemTime, refresh: Duration, wall: SystemTime) -> Option<Self> {
        let left = expires_at.duration_since(wall).ok().filter(|left| !left.is_zero())?;
        let left = left.min(NEVER);
        let margin = refresh.min(left / 2);
        let renew_at = Instant::now() + (left - margin).max(SOONEST);
        Some(Self { expires_at, margin, renew_at })
    }

    fn is_over(&self, now: Instant, wall: SystemTime) -> bool {
        let left = self.expires_at.duration_since(wall).unwrap_or_default();
        self.renew_at <= now || left <= self.margin
    }
}

impl Tokens {
    pub(crate) fn new(
        credentials: Credentials,
        config: &Config,
        seed: u64,
        wall: fn() -> SystemTime,
    ) -> Self {
        let retry =
            RetryPolicy { first: FirstRetry::Jittered, max_attempts: None, ..config.retry.clone() };
        Self(Arc::new(Shared {
            credentials,
            flight: SingleFlight::new(),
            refresh: config.token_refresh,
            state: Mutex::new(State {
                backoff: Backoff::new(retry, seed),
                calls: 0,
                held: None,
                oldest: 0,
                refused: false,
                renewals_wait_until: None,
            }),
            timeout: config.token_timeout,
            wall,
        }))
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0.credentials.place
    }

    /// A token to dial with. Dropping the future leaves the call to others who wait for it.
    pub(crate) async fn get(&self) -> Result<Issued, NoToken> {
        self.newer_than(None).await
    }

    /// A token to go on with in place of `old`.
    pub(crate) async fn renew(&self, old: &Issued) -> Result<Issued, NoToken> {
        self.newer_than(Some(old.0.call)).await
    }

    async fn newer_than(&self, old: Option<u64>) -> Result<Issued, NoToken> {
        loop {
            if let Some(held) = self.0.held(old) {
                return Ok(held);
            }
            let issued = self.0.flight.join(|| Arc::clone(&self.0).call(old).boxed()).await?;
            if self.0.is_current(&issued) {
                return Ok(issued);
            }
        }
    }

    /// The server refused `issued`.
    pub(crate) fn refuse(&self, issued: &Issued) {
        let mut state = self.0.state.lock();
        if issued.0.call >= state.oldest {
            state.refused = true;
            state.oldest = state.calls + 1;
        }
    }

    /// Gives up what was handed out so far.
    pub(crate) fn give_up_all(&self) {
        let mut state = self.0.state.lock();
        state.oldest = state.calls + 1;
    }

    /// When whoever uses `issued` on an open socket is to look at it again; one that is due now is to
    /// be renewed. It is due `early` before its time.
    pub(crate) fn next_look(&self, issued: &Issued, early: Duration) -> Option<Instant> {
        let (now, wall) = (Instant::now(), (self.0.wall)());
        let state = self.0.state.lock();
        let due = if issued.0.call < state.oldest {
            now
        } else {
            let life = issued.0.life?;
            let renew_at = life.renew_at.checked_sub(early).unwrap_or(life.renew_at);
            if life.is_over(now, wall) { now } else { renew_at.min(now + LOOK) }
        };
        Some(state.renewals_wait_until.map_or(due, |until| due.max(until)))
    }
}

impl Shared {
    /// The latest token, if it may be used again.
    fn held(&self, newer_than: Option<u64>) -> Option<Issued> {
        let (now, wall) = (Instant::now(), (self.wall)());
        let state = self.state.lock();
        let held = state.held.as_ref()?;
        let is_fresh = held.0.life.is_some_and(|life| !life.is_over(now, wall));
        let is_newer = newer_than.is_none_or(|old| held.0.call > old);
        (is_fresh && is_newer && held.0.call >= state.oldest).then(|| held.clone())
    }

    fn is_current(&self, issued: &Issued) -> bool {
        issued.0.call >= self.state.lock().oldest
    }

    /// Asks the provider. All that it does is contained: failures, panics, and no answer at all.
    fn call(
        self: Arc<Self>,
        newer_than: Option<u64>,
    ) -> BoxFuture<'static, Result<Issued, NoToken>> {
        async move {
            // Another call may have ended between the look and this one.
            if let Some(held) = self.held(newer_than) {
                return Ok(held);
            }
            let (call, reason) = self.begin(newer_than);
            let asking = async { self.credentials.provider.token(reason).await };
            let asking = time::timeout(self.timeout, AssertUnwindSafe(asking).catch_unwind());
            let token = match asking.await {
                Ok(Ok(Ok(token))) => Ok(token),
                Ok(Ok(Err(e))) => Err(Cause::Failed(e)),
                Ok(Err(_)) => Err(Cause::Panicked),
                Err(_) => Err(Cause::TimedOut),
            };
            self.settle(call, reason, token)
        }
        .boxed()
    }

    /// Numbers a call, and says why it is made.
    fn begin(&self, newer_than: Option<u64>) -> (u64, TokenReason) {
        let mut state = self.state.lock();
        state.calls += 1;
        let reason = match newer_than {
            _ if state.refused => TokenReason::Refused,
            None => TokenReason::Dial,
            Some(old) if old < state.oldest => TokenReason::Rotation,
            Some(_) => TokenReason::Expiring,
        };
        (state.calls, reason)
    }

    fn settle(
        &self,
        call: u64,
        reason: TokenReason,
        token: Result<Token, Cause>,
    ) -> Result<Issued, NoToken> {
        let wall = (self.wall)();
        let mut state = self.state.lock();
        let Token { expires_at, secret } = match token {
            Ok(token) => token,
            Err(cause) => {
                let delay = state.backoff.next().unwrap_or_default();
                state.renewals_wait_until = Some(Instant::now() + delay);
                drop(state);
                return Err(NoToken::new(cause));
            }
        };
        let life = expires_at.and_then(|at| Life::new(at, self.refresh, wall));
        let issued = Issued(Arc::new(Issue { call, life, secret }));
        state.backoff.record_uptime(NEVER);
        state.renewals_wait_until = None;
        state.refused &= reason != TokenReason::Refused || call < state.oldest;
        let replaced = std::mem::replace(&mut state.held, life.map(|_| issued.clone()));
        drop(state);
        drop(replaced);
        if expires_at.is_some() && life.is_none() {
            tracing::warn!(
                "the token has expired by this machine's clock, so it is used for one attempt: is the \
                 clock right?"
            );
        }
        Ok(issued)
    }
}
