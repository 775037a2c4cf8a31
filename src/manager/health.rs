//! Whether a manager is well: a look at it, and the rules' word on what was seen.

use std::sync::Arc;

use tokio::time::Instant;

use super::WsManager;
use crate::engine::core::Core;
use crate::engine::neighbours::Neighbours;
use crate::observe::health::{Observed, findings};
use crate::observe::{Diagnosis, Finding, Health, StreamInfo, Thresholds};

impl WsManager {
    /// Whether the manager is well: pass, warn or fail, with findings that say what to do.
    ///
    /// It looks at each stream once, as [`streams`](Self::streams) does, and delays nobody. Nothing
    /// is measured in between but what is counted anyway, so it may be called as often as an
    /// endpoint is asked. To be told of changes alone, see [`diagnose_every`](Self::diagnose_every).
    #[must_use]
    pub fn health(&self) -> Health {
        self.health_with(&Thresholds::default())
    }

    /// [`health`](Self::health) with other ideas of what is still well.
    #[must_use]
    pub fn health_with(&self, thresholds: &Thresholds) -> Health {
        look(&self.core, thresholds, Health::new)
    }

    /// The manager's health and its streams as a table for a person.
    ///
    /// ```no_run
    /// # fn run(manager: wsmux::WsManager) {
    /// println!("{}", manager.diagnose());
    /// # }
    /// ```
    #[must_use]
    pub fn diagnose(&self) -> Diagnosis {
        self.diagnose_with(&Thresholds::default())
    }

    /// [`diagnose`](Self::diagnose) with other ideas of what is still well.
    #[must_use]
    pub fn diagnose_with(&self, thresholds: &Thresholds) -> Diagnosis {
        look(&self.core, thresholds, |observed, findings| {
            let health = Health::new(observed, findings);
            Diagnosis::new(health, observed.streams.to_vec())
        })
    }
}

/// What `tell` makes of a look at the manager and of its findings, the worst first.
pub(super) fn look<R>(
    core: &Arc<Core>,
    thresholds: &Thresholds,
    tell: impl FnOnce(&Observed<'_>, Vec<Finding>) -> R,
) -> R {
    // Before the streams: one that is opened again in between is found among them.
    let ended = core.ended();
    let streams: Vec<StreamInfo> = core.streams();
    let now = Instant::now();
    let observed = Observed {
        activity: core.metrics.recent.snapshot(now),
        ended,
        max_connections: core.config.limits.max_connections,
        neighbours: Neighbours::process_wide().of(core.id()),
        now,
        shut_down: core.is_shut_down(),
        streams: &streams,
        uptime: core.metrics.recent.uptime(now),
    };
    let found = findings(&observed, thresholds);
    tell(&observed, found)
}
