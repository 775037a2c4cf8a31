//! The handle users hold. Each file beside this one adds what one concern needs.

mod builder;
mod health;
mod health_changes;
mod metrics;
mod request;
mod send;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::decode::FromMessage;
use crate::engine::core::Core;
use crate::engine::registry::Kind;
use crate::engine::seat::Seat;
use crate::error::{BuildError, SubscribeError};
use crate::name::StreamName;
use crate::observe::{Metrics, Overall, Status, StreamInfo};
use crate::protocol::{Direct, Protocol};
use crate::stream::open::open;
use crate::stream::{Events, Lease, StatusStream, Streams, Subscription};

pub use builder::WsManagerBuilder;
pub use health_changes::HealthChanges;
pub use metrics::MetricsEvery;
#[cfg(feature = "prometheus")]
pub use metrics::prometheus;
pub use request::{Replies, Reply};

/// Hands out [`Subscription`]s, sharing one socket per stream name.
///
/// A handle: cloning it is cheap, and clones share everything. Sockets live as long as a
/// subscription or a lease to them does, whether or not a manager is still around. When the last
/// manager, subscription and lease are dropped, every task ends.
#[derive(Clone)]
pub struct WsManager {
    core: Arc<Core>,
}

impl WsManager {
    /// A manager of the streams under `base`, with defaults: one socket per name, and the name is
    /// the next segment of the path. See [`Direct`]. Opens nothing.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn connect(base: &str) -> Result<Self, BuildError> {
        Self::builder(Direct::new(base)?).build()
    }

    /// The same with settings.
    ///
    /// ```
    /// use wsmux::{Config, RetryPolicy, WsManager};
    ///
    /// let forever = Config::default().retry(RetryPolicy::forever());
    /// let manager = WsManager::connect_with("wss://stream.binance.com:9443/ws", forever)?;
    /// # Ok::<(), wsmux::BuildError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL, or a setting cannot work.
    pub fn connect_with(base: &str, config: Config) -> Result<Self, BuildError> {
        Self::builder(Direct::new(base)?).config(config).build()
    }

    /// A manager of a protocol's streams, with defaults. Opens nothing.
    pub fn new(protocol: impl Protocol) -> Self {
        Self { core: Core::new(WsManagerBuilder::new(protocol).parts(Metrics::default())) }
    }

    /// Starts to build a manager.
    pub fn builder(protocol: impl Protocol) -> WsManagerBuilder {
        WsManagerBuilder::new(protocol)
    }

    /// Subscribes to `name`, opening its socket if this is the first claim on it.
    ///
    /// Returns at once: connecting goes on in the background, and its outcome is seen in
    /// [`Subscription::status`] and on the stream. A stream that ended for good is opened afresh;
    /// its first dial then waits out what the last failure earned.
    ///
    /// # Errors
    ///
    /// When the name is not valid, there is no runtime to open a connection on, the connection
    /// limit is reached, or the manager is shut down. Nothing was opened then.
    pub fn subscribe<T: FromMessage>(
        &self,
        name: impl AsRef<str>,
    ) -> Result<Subscription<T>, SubscribeError> {
        self.seat(name.as_ref(), Kind::Reader, Subscription::new)
    }

    /// Subscribes to several names, to be read as one stream of items with their names. A name that
    /// is given twice is one member. `T` is the same for all; names may be
    /// [inserted](Streams::insert) and [removed](Streams::remove) later.
    ///
    /// # Errors
    ///
    /// Those of [`subscribe`](Self::subscribe), for the first name that is refused. The names before
    /// it are left again: it is all or nothing.
    ///
    /// ```no_run
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// let mut prices = manager.subscribe_all::<f64>(["btcusdt@price", "ethusdt@price"])?;
    /// prices.insert("solusdt@price")?;
    /// while let Some((name, item)) = prices.recv().await {
    ///     println!("{name}: {item:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe_all<T: FromMessage>(
        &self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Streams<T>, SubscribeError> {
        let names = names.into_iter().map(|name| StreamName::try_from(name.as_ref()));
        let names: Vec<_> = names.collect::<Result<_, _>>()?; // Before anything is opened.
        let mut streams = Streams::new(&self.core);
        names.iter().try_for_each(|name| streams.insert(name).map(drop))?;
        Ok(streams)
    }

    /// Keeps `name` open without reading it, until the lease is dropped. Opens it if need be.
    ///
    /// Of the messages, only the last one is kept for readers that come later: as
    /// [`latest`](Subscription::latest), and with
    /// [`replay_latest`](field@Config::replay_latest) as the first that each of them gets. Else a
    /// reader gets what comes after it has joined.
    ///
    /// # Errors
    ///
    /// Those of [`subscribe`](Self::subscribe).
    pub fn keep_warm(&self, name: impl AsRef<str>) -> Result<Lease, SubscribeError> {
        self.seat(name.as_ref(), Kind::Lease, Lease::new)
    }

    /// What the manager as a whole is doing, now and whenever it changes.
    pub fn status(&self) -> StatusStream<Overall> {
        StatusStream::new(&self.core.overall)
    }

    /// What stream `name` is doing, now and whenever it changes; `None` if it is not open.
    #[must_use]
    pub fn watch_status(&self, name: &str) -> Option<StatusStream> {
        self.core.topic(name).map(|topic| StatusStream::new(topic.status()))
    }

    /// What stream `name` is doing right now; `None` if it is not open.
    #[must_use]
    pub fn stream_status(&self, name: &str) -> Option<Status> {
        self.core.topic(name).map(|topic| topic.status().get())
    }

    /// Every open stream, in no particular order. Each is as of one moment, all of them together
    /// are not.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamInfo> {
        self.core.streams()
    }

    /// Number of open streams, lingering ones included.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.core.stream_count()
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::new(&self.core.events)
    }

    /// Has another socket take over from the one that carries `name`, and the names with it, without
    /// a break: make before break. Returns whether there is an open one to be replaced.
    ///
    /// Returns at once. The old socket stays until the new one has joined and it is known where the
    /// one leaves off and the other goes on; readers see nothing of it, or a
    /// [`Rotated`](crate::DisconnectReason::Rotated) gap where that cannot be known within
    /// [`Config::handover_timeout`](field@crate::Config::handover_timeout). If the new socket fails,
    /// the old one stays, and it is tried again later.
    ///
    /// A stream that is not open is reconnecting already.
    ///
    /// ```no_run
    /// # let manager = wsmux::WsManager::connect("wss://stream.binance.com:9443/ws")?;
    /// if !manager.reconnect("btcusdt@trade") {
    ///     println!("it has no socket now");
    /// }
    /// # Ok::<(), wsmux::BuildError>(())
    /// ```
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn reconnect(&self, name: &str) -> bool {
        self.core.topic(name).is_some_and(|topic| self.core.rotate(&topic))
    }

    /// Closes the streams that have had neither reader nor lease for `idle_for`, and returns how
    /// many those were, whatever their [`linger`](field@crate::Config::linger). [`Duration::ZERO`] closes
    /// all that are idle.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn sweep_idle(&self, idle_for: Duration) -> usize {
        // What began before the clock did, nobody has been idle since.
        Instant::now().checked_sub(idle_for).map_or(0, |since| self.core.sweep_idle(since))
    }

    /// Gives up the tokens that were handed out so far, and moves all open sockets to a fresh one: in
    /// place where the protocol can ([`Session::rotate`](crate::protocol::Session::rotate)), else
    /// another socket takes over, as in [`reconnect`](Self::reconnect). Without
    /// [`Credentials`](crate::Credentials) that is what all of them do: the protocol has its own.
    ///
    /// Returns at once. While the provider fails, or the fresh token is refused, sockets go on as they
    /// are, and it is tried again.
    pub fn rotate_credentials(&self) {
        self.core.rotate_credentials();
    }

    /// Closes every stream with [`CloseReason::Shutdown`](crate::CloseReason::Shutdown), refuses new
    /// ones, and waits until the sockets are closed: at most
    /// [`Config::close_timeout`](field@crate::Config::close_timeout), and then cuts off those that are not.
    /// Readers see the end at once, before their sockets are closed.
    ///
    /// Dropping the future leaves the sockets to close by themselves, within the same time.
    pub async fn shutdown(&self) {
        self.core.shut_down().await;
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    fn seat<S>(
        &self,
        name: &str,
        kind: Kind,
        take: impl FnOnce(Seat) -> S,
    ) -> Result<S, SubscribeError> {
        open(&self.core, name, kind, take)
    }
}

impl fmt::Debug for WsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsManager")
            .field("label", &self.label())
            .field("config", &self.core.config)
            .field("streams", &self.core.stream_count())
            .finish_non_exhaustive()
    }
}
