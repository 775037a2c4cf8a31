//! The handle users hold. Each file beside this one adds what one concern needs.

mod builder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::decode::FromMessage;
use crate::engine::connection::task;
use crate::engine::core::Core;
use crate::engine::registry::Kind;
use crate::engine::seat::Seat;
use crate::error::{BuildError, SubscribeError};
use crate::name::StreamName;
use crate::observe::{ManagerMetrics, Overall, Status, StreamInfo};
use crate::protocol::{Direct, Protocol};
use crate::stream::{Events, Lease, StatusStream, Subscription};

pub use builder::WsManagerBuilder;

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

    /// A manager of a protocol's streams, with defaults. Opens nothing.
    pub fn new(protocol: impl Protocol) -> Self {
        Self { core: Core::new(WsManagerBuilder::new(protocol).parts()) }
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

    /// Keeps `name` open without reading it, until the lease is dropped. Opens it if need be.
    ///
    /// No messages are kept for readers that come later: each gets what comes after it has joined.
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

    /// What was counted since the manager was built.
    #[must_use]
    pub fn metrics(&self) -> ManagerMetrics {
        self.core.metrics.snapshot()
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::new(&self.core.events)
    }

    /// Closes the streams that have had neither reader nor lease for `idle_for`, and returns how
    /// many those were, whatever their [`linger`](field@Config::linger). [`Duration::ZERO`] closes
    /// all that are idle.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn sweep_idle(&self, idle_for: Duration) -> usize {
        // What began before the clock did, nobody has been idle since.
        Instant::now().checked_sub(idle_for).map_or(0, |since| self.core.sweep_idle(since))
    }

    /// Closes every stream with [`CloseReason::Shutdown`](crate::CloseReason::Shutdown), refuses new
    /// ones, and waits until the sockets are closed: at most
    /// [`Config::close_timeout`](field@Config::close_timeout), and then cuts off those that are not.
    /// Readers see the end at once, before their sockets are closed.
    ///
    /// Dropping the future leaves the sockets to close by themselves, within the same time.
    pub async fn shutdown(&self) {
        self.core.shut_down().await;
    }

    fn seat<S>(
        &self,
        name: &str,
        kind: Kind,
        take: impl FnOnce(Seat) -> S,
    ) -> Result<S, SubscribeError> {
        let name = StreamName::try_from(name)?;
        let runtime = self.core.runtime();
        let (seat, link) = Seat::take(&self.core, &name, kind, runtime.is_some())?;
        // Made before anything else can fail: from here on the seat is given back on drop.
        let seated = take(seat);
        if let (Some(link), Some(runtime)) = (link, runtime) {
            task::spawn(&self.core, &runtime, link);
        }
        Ok(seated)
    }
}

impl fmt::Debug for WsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsManager")
            .field("config", &self.core.config)
            .field("streams", &self.core.stream_count())
            .finish_non_exhaustive()
    }
}
