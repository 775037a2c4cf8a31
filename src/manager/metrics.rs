//! What a manager has counted: as data, as a stream of data, and as text for Prometheus.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{FusedStream, Stream};
use tokio::time::{self, Interval, MissedTickBehavior};

use super::WsManager;
use crate::engine::core::Core;
use crate::observe::ManagerMetrics;

impl WsManager {
    /// What tells this manager from others in metrics: see
    /// [`WsManagerBuilder::label`](crate::WsManagerBuilder::label).
    #[must_use]
    pub fn label(&self) -> &str {
        self.core.metrics.label()
    }

    /// What was counted since the manager was built, and what is now.
    ///
    /// It looks at each stream, for those that are quiet and for the reader that is furthest behind,
    /// and so takes longer with more streams. A recorder of the `metrics` crate is told these two
    /// here only, since nobody else looks: a program that has one calls this now and then, or lets
    /// [`metrics_every`](Self::metrics_every) run.
    #[must_use]
    pub fn metrics(&self) -> ManagerMetrics {
        snapshot(&self.core)
    }

    /// A snapshot now, and one each `period` from then on; below a millisecond counts as that.
    ///
    /// A snapshot is always of the moment in which it is read: those that nobody has read in time are
    /// left out. The stream does not keep the manager, nor anything open, and ends at the first
    /// `period` that finds the last manager, subscription and lease gone.
    ///
    /// ```no_run
    /// # async fn run(manager: wsmux::WsManager) {
    /// use std::time::Duration;
    /// use futures::StreamExt as _;
    /// use wsmux::ManagerMetrics;
    ///
    /// let mut snapshots = manager.metrics_every(Duration::from_secs(10));
    /// let mut before = ManagerMetrics::default();
    /// while let Some(now) = snapshots.next().await {
    ///     let new = now.since(&before);
    ///     println!("{:.1} messages/s, {} gaps", new.per_second(new.messages), new.gaps);
    ///     before = now;
    /// }
    /// # }
    /// ```
    pub fn metrics_every(&self, period: Duration) -> MetricsEvery {
        MetricsEvery { core: Some(Arc::downgrade(&self.core)), interval: None, period }
    }

    /// What [`metrics`](Self::metrics) returns, as text for Prometheus. Needs no recorder.
    ///
    /// Answer a scrape with it as `text/plain; version=0.0.4`. A program with several managers
    /// writes [`prometheus`] instead: one such text behind another is not valid.
    ///
    /// Each count is there from the start, at zero. Without
    /// [`metrics_per_stream`](crate::WsManagerBuilder::metrics_per_stream) there are no more than
    /// 110 series, whatever the names of streams.
    ///
    /// ```
    /// # use wsmux::WsManager;
    /// let manager = WsManager::connect("wss://stream.binance.com:9443/ws")?;
    /// let text = manager.prometheus();
    /// assert!(text.contains("ws_manager_active_connections{manager=\"default\"} 0"));
    /// # Ok::<(), wsmux::BuildError>(())
    /// ```
    #[cfg(feature = "prometheus")]
    #[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
    #[must_use]
    pub fn prometheus(&self) -> String {
        prometheus([self])
    }
}

/// What managers have counted, as one text for Prometheus: see [`WsManager::prometheus`]. They are
/// told apart by their label; those of one label are added up. Clones of a manager are that manager.
///
/// ```
/// # use wsmux::{WsManager, protocol::Direct};
/// let spot = WsManager::builder(Direct::new("wss://stream.binance.com:9443/ws")?).label("spot");
/// let futures = WsManager::builder(Direct::new("wss://fstream.binance.com/ws")?).label("futures");
/// let text = wsmux::prometheus([&spot.build()?, &futures.build()?]);
/// assert!(text.contains("ws_manager_readers{manager=\"spot\"} 0"));
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[cfg(feature = "prometheus")]
#[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
#[must_use]
pub fn prometheus<'a>(managers: impl IntoIterator<Item = &'a WsManager>) -> String {
    let mut cores: Vec<&Arc<Core>> = Vec::new();
    for WsManager { core } in managers {
        if !cores.iter().any(|other| Arc::ptr_eq(other, core)) {
            cores.push(core);
        }
    }
    crate::observe::render(cores.into_iter().map(|core| (core.metrics.label(), snapshot(core))))
}

fn snapshot(core: &Core) -> ManagerMetrics {
    let (mut lag, mut quiet) = (0, 0);
    for stream in core.streams() {
        lag = stream.lag.max(lag);
        quiet += u64::from(stream.quiet);
    }
    core.metrics.looked(quiet, lag);
    core.metrics.snapshot()
}

/// Bounds of a period: a clock ticks no finer, and counts no further.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Snapshots of a manager's counts; created by [`WsManager::metrics_every`].
#[must_use = "streams do nothing unless polled"]
pub struct MetricsEvery {
    /// None after the end.
    core: Option<Weak<Core>>,
    /// Made when it is first polled: it needs a runtime.
    interval: Option<Interval>,
    period: Duration,
}

impl Stream for MetricsEvery {
    type Item = ManagerMetrics;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ManagerMetrics>> {
        let this = &mut *self;
        let Some(core) = &this.core else { return Poll::Ready(None) };
        let interval = this.interval.get_or_insert_with(|| {
            let mut interval = time::interval(this.period.clamp(SHORTEST, LONGEST));
            interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
            interval
        });
        ready!(interval.poll_tick(cx));
        let snapshot = core.upgrade().map(|core| snapshot(&core));
        if snapshot.is_none() {
            this.core = None;
        }
        Poll::Ready(snapshot)
    }
}

impl FusedStream for MetricsEvery {
    fn is_terminated(&self) -> bool {
        self.core.is_none()
    }
}

impl fmt::Debug for MetricsEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsEvery").field("period", &self.period).finish_non_exhaustive()
    }
}
