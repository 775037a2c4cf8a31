//! Changes of a manager's health as a stream that logs them.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::Stream;
use tokio::time::{self, Sleep};

use super::WsManager;
use super::health::look;
use crate::engine::core::Core;
use crate::engine::sync::Following;
use crate::observe::health::{Known, escaped};
use crate::observe::{HealthChange, Overall, Severity, Thresholds};

impl WsManager {
    /// Looks at the health now and every `period`, and logs and yields what has changed: findings
    /// that appeared or became better or worse, and those that are resolved. Nothing is said while
    /// all stays as it is.
    ///
    /// It does nothing until it is polled, keeps neither sockets nor the manager alive, and ends
    /// with them. Most programs spawn it:
    ///
    /// ```no_run
    /// # async fn run(manager: wsmux::WsManager) {
    /// use std::time::Duration;
    ///
    /// tokio::spawn(manager.diagnose_every(Duration::from_secs(60)).run());
    /// # }
    /// ```
    pub fn diagnose_every(&self, period: Duration) -> HealthChanges {
        HealthChanges::new(&self.core, period)
    }
}

/// What changes in a manager's health; created by
/// [`WsManager::diagnose_every`](crate::WsManager::diagnose_every).
///
/// Each change is yielded, and logged as well: a finding that fails at level ERROR, one that warns
/// at WARN, a resolved one at INFO. The first look is at once. Ends when the manager and all its
/// streams are gone. It is polled inside a Tokio runtime with a timer.
#[must_use = "streams do nothing unless polled: spawn `run()`"]
pub struct HealthChanges {
    /// Tells when the manager is gone.
    alive: Following<Overall>,
    core: Weak<Core>,
    known: Known,
    period: Duration,
    /// Until the next look; none before the first.
    pause: Option<Pin<Box<Sleep>>>,
    thresholds: Thresholds,
}

/// The shortest period: a shorter one would do nothing but look.
const SHORTEST: Duration = Duration::from_millis(10);

impl HealthChanges {
    pub(super) fn new(core: &Arc<Core>, period: Duration) -> Self {
        Self {
            alive: Following::new(&core.overall),
            core: Arc::downgrade(core),
            known: Known::default(),
            period: period.max(SHORTEST),
            pause: None,
            thresholds: Thresholds::default(),
        }
    }

    /// Sets what is still well.
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Logs changes until the manager and all its streams are gone. Dropping the future ends it.
    pub async fn run(mut self) {
        while poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await.is_some() {}
    }

    fn change(&mut self) -> Option<HealthChange> {
        let core = self.core.upgrade()?;
        let known = &mut self.known;
        look(&core, &self.thresholds, |_, findings| known.change(&findings))
    }
}

impl Stream for HealthChanges {
    type Item = HealthChange;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<HealthChange>> {
        let this = &mut *self;
        loop {
            while let Poll::Ready(state) = this.alive.poll_changed(cx) {
                if state.is_none() {
                    return Poll::Ready(None);
                }
            }
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
            }
            this.pause = Some(Box::pin(time::sleep(this.period)));
            if let Some(change) = this.change() {
                log(&change);
                return Poll::Ready(Some(change));
            }
        }
    }
}

fn log(change: &HealthChange) {
    for finding in &change.appeared {
        let (kind, figure) = (finding.kind.label(), finding.figure.value());
        match finding.severity {
            Severity::Fail => tracing::error!(kind, figure, "{finding}"),
            Severity::Warn => tracing::warn!(kind, figure, "{finding}"),
        }
    }
    for (kind, stream) in &change.resolved {
        let kind = kind.label();
        match stream {
            Some(name) => tracing::info!(kind, "resolved: {}: {kind}", escaped(name.as_str())),
            None => tracing::info!(kind, "resolved: {kind}"),
        }
    }
    let (appeared, resolved) = (change.appeared_more, change.resolved_more);
    if appeared + resolved > 0 {
        tracing::warn!("{appeared} more findings appeared, {resolved} more are resolved");
    }
}

impl fmt::Debug for HealthChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthChanges").field("period", &self.period).finish_non_exhaustive()
    }
}
