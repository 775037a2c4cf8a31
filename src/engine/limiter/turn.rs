//! A place in a host's queue, and the permit that it comes to.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{self, Instant};

use super::{Limiter, Waiting};
use crate::engine::defect::{Defect, seeded};
use crate::engine::sync::register;

impl Limiter {
    /// Takes a place in the queue for a handshake with `host`, of which at most `max` are in flight
    /// then. `network` says whether the dial takes of what the process has.
    pub(crate) fn queue(&self, host: String, max: usize, network: bool) -> Turn {
        let ticket = self.0.lock().host(&host, Instant::now()).queue.join();
        Turn { found: None, host, limiter: self.clone(), max, network, ticket }
    }
}

/// A place in a host's queue. Dropping it gives it up.
#[must_use = "a place is given up when it is dropped"]
pub(crate) struct Turn {
    /// What was waited for when it was looked at last.
    found: Option<Waiting>,
    host: String,
    limiter: Limiter,
    max: usize,
    network: bool,
    ticket: u64,
}

impl Turn {
    /// The permit when it is our turn; before, what is waited for, at once and whenever it has
    /// changed. Dropping this future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Permit, Waiting> {
        loop {
            let look = self.found.and_then(look_again);
            let mut look = pin!(async move {
                match look {
                    Some(at) => time::sleep_until(at).await,
                    None => pending().await,
                }
            });
            let next = poll_fn(|cx| match self.ask(cx, Instant::now()) {
                Ok(permit) => Poll::Ready(Some(Ok(permit))),
                Err(waiting) if self.found != Some(waiting) => {
                    let before = self.found.replace(waiting);
                    Poll::Ready(is_news(before, waiting).then_some(Err(waiting)))
                }
                Err(_) => look.as_mut().poll(cx).map(|()| None),
            });
            if let Some(next) = next.await {
                return next;
            }
        }
    }

    /// Takes the turn if it is ours, or asks to be woken when it may be: by others, or by the time
    /// that whoever is first is told. Not to be asked again once it has come.
    pub(in crate::engine) fn ask(
        &mut self,
        cx: &Context<'_>,
        now: Instant,
    ) -> Result<Permit, Waiting> {
        let exhausted = self.limiter.exhausted_until(self.network, now);
        let (asked, replaced, next) = {
            let mut state = self.limiter.0.lock();
            let host = state.host(&self.host, now);
            match host.admit(self.ticket, self.max, exhausted, now) {
                Ok(()) => (Ok(()), host.queue.leave(self.ticket), host.queue.wake_first()),
                Err(waiting) => {
                    if seeded(Defect::TurnInTwoSteps) {
                        drop(state);
                        state = self.limiter.0.lock();
                    }
                    let slot = state.host(&self.host, now).queue.waker(self.ticket);
                    (Err(waiting), slot.and_then(|slot| register(slot, cx)), None)
                }
            }
        };
        drop(replaced);
        if let Some(next) = next {
            next.wake(); // It is first now, and may have room too.
        }
        asked.map(|()| Permit {
            counts: true,
            host: self.host.clone(),
            limiter: self.limiter.clone(),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if seeded(Defect::TurnIsKept) {
            return;
        }
        let (ticket, now) = (self.ticket, Instant::now());
        let waker = self.limiter.change(&self.host, now, |host| host.queue.leave(ticket));
        drop(waker);
    }
}

/// Whether to say it. A time that is not known any more says nothing.
fn is_news(before: Option<Waiting>, now: Waiting) -> bool {
    before.is_none_or(|before| before.position != now.position || now.until.is_some())
}

/// When to look again at what one waits for, without being woken. Whoever is first has to know when
/// its time has come. To the others it is only how far they are: the longer it takes, the less often.
fn look_again(waiting: Waiting) -> Option<Instant> {
    let Waiting { position, until } = waiting;
    if position == 1 {
        return until;
    }
    let now = Instant::now();
    let left = until.map(|until| until.saturating_duration_since(now)).unwrap_or_default();
    let others = Duration::from_millis(u64::try_from(position).unwrap_or(u64::MAX));
    Some(now + (left / 16).max(others).max(Duration::from_secs(1)))
}

/// The right to make one handshake. Dropping it lets the next one go.
#[derive(Debug)]
#[must_use = "a permit is given back when it is dropped"]
pub(crate) struct Permit {
    counts: bool,
    host: String,
    limiter: Limiter,
}

impl Permit {
    /// Whom to dial.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Gives the permit back for a dial that no server has seen.
    pub(crate) fn withdraw(mut self) {
        self.counts = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = Instant::now();
        self.limiter.change(&self.host, now, |host| host.done(self.counts, now));
    }
}
