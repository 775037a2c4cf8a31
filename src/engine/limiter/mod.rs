//! Who may start a handshake with a host, and when.
//!
//! Servers count by address, not by manager, so one limiter serves the whole process unless the
//! builder is given another. Waiting here is not an attempt: it is never counted as one.
//!
//! # Invariants
//!
//! 1. At most as many handshakes with a host are in flight as its askers allow, and no window has
//!    more starts than its [`DialRate`] allows.
//! 2. Who asks first goes first: nobody is let in while another waits before it. A waiter that is
//!    dropped passes its turn on.
//! 3. A host's pause holds for everybody who has not got a [`Permit`] yet; who does something else
//!    with one before it dials asks whether there is a pause. A pause is never shortened.
//! 4. Whoever is first is woken by each change of its host, and knows itself when a pause or a
//!    window ends. So the first never sleeps on its turn, and all others wait for it alone.

mod host;
mod queue;
mod turn;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use self::host::Host;
use super::defect::{Defect, seeded};
use super::sync::Mutex;
use crate::config::DialRate;

pub(crate) use self::host::Waiting;
pub(crate) use self::turn::{Permit, Turn};

/// How long nobody dials when the process has run out of file descriptors or ports.
pub(crate) const EXHAUSTED: Duration = Duration::from_secs(1);

/// Limits the handshakes with each host, and holds the pauses of hosts.
///
/// Three things are limited, by host, in the order of asking: dials that begin within a window
/// ([`DialRate`]), handshakes in flight
/// ([`Limits::handshakes_per_host`](crate::Limits)), and, after HTTP 429 or 418, all of them for as
/// long as the server asks. Besides, nobody dials for a second when the process has run out of file
/// descriptors or ports. Who waits says so: [`Status::Waiting`](crate::Status).
///
/// Clones are the same limiter. All managers of a process share one, because a venue counts the
/// connections of an address; hand an own one to
/// [`WsManagerBuilder::limiter`](crate::WsManagerBuilder::limiter), or the same to several, to be
/// apart from the others.
///
/// A host is its name and port as the URL has them.
///
/// ```
/// use std::time::Duration;
/// use wsmux::{DialRate, Limiter};
///
/// // For all managers: what the venue says of one host, and of another whatever its port.
/// let limiter = Limiter::process_wide();
/// limiter.set_rate("feed.example:9443", DialRate::new(20, Duration::from_secs(60)));
/// limiter.set_rate("mirror.example", DialRate::UNLIMITED);
/// assert_eq!(limiter.rate("stream.binance.com:9443"), DialRate::BINANCE); // Known.
/// ```
#[derive(Clone, Default)]
pub struct Limiter(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    exhausted_until: Option<Instant>,
    hosts: HashMap<String, Host>,
    /// With how many hosts to look for those that nobody dials any more.
    look_at: usize,
    rates: Rates,
}

/// The rates that were set.
#[derive(Default)]
struct Rates {
    by_host: HashMap<String, DialRate>,
    of_others: Option<DialRate>,
}

impl Limiter {
    /// A limiter of its own, with the rates that known venues ask for, and 250 dials a second for
    /// every other host. [`docs/defaults.md`][defaults] has the hosts.
    ///
    /// [defaults]: crate::docs::defaults
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

    /// A limiter of its own, with the same rate for every host, known venues included.
    #[must_use]
    pub fn with_rate(rate: DialRate) -> Self {
        let limiter = Self::default();
        limiter.0.lock().rates.of_others = Some(rate);
        limiter
    }

    /// Sets how often `host` may be dialled: `name:port`, or a name for each of its ports. It holds
    /// at once, also for who waits already.
    pub fn set_rate(&self, host: &str, rate: DialRate) {
        let mut woken = Vec::new();
        {
            let state = &mut *self.0.lock();
            state.rates.by_host.insert(host.to_ascii_lowercase(), rate);
            for (host, entry) in &mut state.hosts {
                entry.rate = state.rates.of(host);
                woken.extend(entry.queue.wake_first());
            }
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// How often `host` may be dialled: `name:port`, or a name.
    #[must_use]
    pub fn rate(&self, host: &str) -> DialRate {
        self.0.lock().rates.of(host)
    }

    /// Lets nobody start a handshake with `host` for `pause`.
    pub(crate) fn pause(&self, host: &str, pause: Duration) {
        let now = Instant::now();
        self.0.lock().host(host, now).pause(now + pause);
    }

    /// Whether nobody may start a handshake with `host` now, because it is paused.
    pub(crate) fn is_paused(&self, host: &str) -> bool {
        let now = Instant::now();
        self.0.lock().hosts.get(host).is_some_and(|host| host.is_paused(now))
    }

    /// The process has run out of something that each dial needs: nobody dials for a while. Dials
    /// over a network share what the process has, whatever their limiter. Returns whether this is
    /// news.
    pub(crate) fn exhausted(&self, network: bool) -> bool {
        let now = Instant::now();
        let is_news = self.exhausted_until(network, now).is_none();
        let until = Some(now + EXHAUSTED);
        if network {
            *process().lock() = until;
        } else {
            self.0.lock().exhausted_until = until;
        }
        is_news
    }

    fn exhausted_until(&self, network: bool, now: Instant) -> Option<Instant> {
        let until = if network { *process().lock() } else { self.0.lock().exhausted_until };
        // What is further off comes from a runtime whose clock is moved by a test.
        until.filter(|until| *until > now && *until <= now + EXHAUSTED)
    }

    /// Changes `host`, tells whose turn it is then, and forgets a host that nobody knows.
    fn change<R>(&self, host: &str, now: Instant, change: impl FnOnce(&mut Host) -> R) -> R {
        let (result, waker) = {
            let mut state = self.0.lock();
            let entry = state.host(host, now);
            let result = change(entry);
            let waker = entry.queue.wake_first().filter(|_| !seeded(Defect::TurnWakesNobody));
            if entry.is_idle(now) {
                state.hosts.remove(host);
            }
            (result, waker)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

/// Until when nobody in the process dials over a network.
fn process() -> &'static Mutex<Option<Instant>> {
    static EXHAUSTED_UNTIL: LazyLock<Mutex<Option<Instant>>> = LazyLock::new(Mutex::default);
    &EXHAUSTED_UNTIL
}

impl State {
    /// What is known of `host`. Now and then, a new one is the occasion to forget the old.
    fn host(&mut self, host: &str, now: Instant) -> &mut Host {
        let is_new = !self.hosts.contains_key(host);
        if is_new && self.hosts.len() >= self.look_at {
            self.hosts.retain(|_, host| !host.is_idle(now));
            self.look_at = (2 * self.hosts.len()).max(64);
        }
        let rate = || self.rates.of(host);
        self.hosts.entry(host.to_owned()).or_insert_with(|| Host::new(rate()))
    }
}

impl Rates {
    fn of(&self, host: &str) -> DialRate {
        // The last colon of an IPv6 address without a port is inside of its brackets.
        let name = host
            .rsplit_once(':')
            .map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
        let set = self.by_host.get(host).or_else(|| self.by_host.get(name)).copied();
        set.or(self.of_others).unwrap_or_else(|| DialRate::of(name))
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("hosts", &self.0.lock().hosts.len()).finish()
    }
}

#[cfg(all(test, wsmux_shuttle))]
mod races;
#[cfg(all(test, not(wsmux_shuttle)))]
mod tests;
