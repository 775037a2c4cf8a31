//! Who may start a handshake with a host, and when.
//!
//! Servers count by address, not by manager, so one limiter serves the whole process unless the
//! builder is given another. Waiting here is not an attempt: it is never counted as one.
//!
//! # Invariants
//!
//! 1. At most as many handshakes with a host are in flight as its askers allow.
//! 2. Who asks first goes first. A waiter that is dropped passes its turn on.
//! 3. A host's pause holds for everybody who has not got a [`Permit`] yet. A pause is never
//!    shortened.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{self, Instant};

use super::sync::{Mutex, register};

/// Limits the handshakes with each host, and holds a host's pauses.
///
/// Clones are the same limiter. All managers of a process share one, because a venue counts the
/// connections of an address; hand an own one to
/// [`WsManagerBuilder::limiter`](crate::WsManagerBuilder::limiter) to be apart from the others.
///
/// A host is its name and port as the URL has them.
#[derive(Clone, Default)]
pub struct Limiter(Arc<Mutex<Hosts>>);

type Hosts = HashMap<String, Host>;

#[derive(Debug, Default)]
struct Host {
    in_flight: usize,
    next_ticket: u64,
    paused_until: Option<Instant>,
    waiting: BTreeMap<u64, Option<Waker>>,
}

impl Limiter {
    /// A limiter of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The limiter that all managers share which were not given another.
    #[must_use]
    pub fn process_wide() -> Self {
        static PROCESS: LazyLock<Limiter> = LazyLock::new(Limiter::new);
        PROCESS.clone()
    }

    /// Lets nobody start a handshake with `host` for `pause`.
    pub(crate) fn pause(&self, host: &str, pause: Duration) {
        let until = Instant::now() + pause;
        let mut hosts = self.0.lock();
        hosts.retain(|_, host| host.is_known()); // Pauses are rare: a good time to look around.
        let host = hosts.entry(host.to_owned()).or_default();
        host.paused_until = host.paused_until.max(Some(until));
    }

    /// Until when `host` is paused.
    pub(crate) fn paused_until(&self, host: &str) -> Option<Instant> {
        let until = self.0.lock().get(host)?.paused_until?;
        (until > Instant::now()).then_some(until)
    }

    /// Waits until a handshake with `host` may start; at most `max` are in flight then.
    pub(crate) async fn admit(&self, host: &str, max: usize) -> Permit {
        let mut turn = Turn { host: host.to_owned(), limiter: self.clone(), ticket: None };
        loop {
            match self.paused_until(host) {
                Some(until) => time::sleep_until(until).await,
                None => poll_fn(|cx| turn.poll(max, cx)).await,
            }
            if turn.ticket.is_none() {
                continue;
            }
            if turn.take(max) {
                return Permit { host: host.to_owned(), limiter: self.clone() };
            }
        }
    }

    /// Changes `host`, tells whose turn it is then, and forgets a host that nobody knows.
    fn change(&self, host: &str, change: impl FnOnce(&mut Host)) {
        let waker = {
            let mut hosts = self.0.lock();
            let Some(entry) = hosts.get_mut(host) else { return };
            change(entry);
            let waker = entry.waiting.first_entry().and_then(|mut first| first.get_mut().take());
            if !entry.is_known() {
                hosts.remove(host);
            }
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Host {
    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| until > Instant::now())
    }

    /// Whether there is anything to remember.
    fn is_known(&self) -> bool {
        self.in_flight > 0 || !self.waiting.is_empty() || self.is_paused()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("hosts", &self.0.lock().len()).finish()
    }
}

/// A place in a host's queue.
struct Turn {
    host: String,
    limiter: Limiter,
    ticket: Option<u64>,
}

impl Turn {
    /// Ready when it is our turn and a handshake may start.
    fn poll(&mut self, max: usize, cx: &mut Context<'_>) -> Poll<()> {
        let (is_our_turn, replaced) = {
            let mut hosts = self.limiter.0.lock();
            let host = hosts.entry(self.host.clone()).or_default();
            let ticket = *self.ticket.get_or_insert_with(|| {
                host.next_ticket += 1;
                host.next_ticket
            });
            let slot = host.waiting.entry(ticket).or_default();
            let replaced = register(slot, cx);
            let is_first = host.waiting.keys().next() == Some(&ticket);
            (is_first && host.in_flight < max, replaced)
        };
        drop(replaced);
        if is_our_turn { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes the turn, if it still is ours and no pause has begun.
    fn take(&mut self, max: usize) -> bool {
        let Some(ticket) = self.ticket else { return false };
        let mut taken = false;
        self.limiter.change(&self.host, |host| {
            let is_first = host.waiting.keys().next() == Some(&ticket);
            taken = is_first && host.in_flight < max && !host.is_paused();
            if taken {
                host.waiting.remove(&ticket);
                host.in_flight += 1;
            }
        });
        if taken {
            self.ticket = None;
        }
        taken
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.limiter.change(&self.host, |host| {
                host.waiting.remove(&ticket);
            });
        }
    }
}

/// The right to make one handshake. Dropping it lets the next one go.
#[derive(Debug)]
pub(crate) struct Permit {
    host: String,
    limiter: Limiter,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.change(&self.host, |host| host.in_flight -= 1);
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn handshakes_are_bounded_per_host_and_first_come_first_served() {
        let limiter = Limiter::new();
        let first = limiter.admit("a", 1).await;
        let mut second = Box::pin(limiter.admit("a", 1));
        let mut third = Box::pin(limiter.admit("a", 1));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(limiter.admit("b", 1).now_or_never().is_some(), "another host");
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "not its turn");
        let second = second.await;
        drop((second, third));
        assert!(limiter.0.lock().is_empty(), "nothing is kept of hosts that nobody dials");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_goes_away_passes_its_turn_on() {
        let limiter = Limiter::new();
        let first = limiter.admit("a", 1).await;
        let mut second = Box::pin(limiter.admit("a", 1));
        assert!(second.as_mut().now_or_never().is_none());
        let third = tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.admit("a", 1).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        drop(second);
        drop(third.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_for_everybody_and_is_never_shortened() {
        let limiter = Limiter::new();
        let start = Instant::now();
        limiter.pause("a", Duration::from_secs(60));
        limiter.pause("a", Duration::from_secs(1));
        let clone = limiter.clone();
        tokio::join!(limiter.admit("a", 1).map(drop), clone.admit("a", 1).map(drop));
        assert_eq!(start.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_begins_meanwhile_holds_for_who_waits() {
        let limiter = Limiter::new();
        let permit = limiter.admit("a", 1).await;
        let waiting = tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.admit("a", 1).await }
        });
        tokio::task::yield_now().await;
        limiter.pause("a", Duration::from_secs(5));
        let start = Instant::now();
        drop(permit);
        drop(waiting.await.unwrap());
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
