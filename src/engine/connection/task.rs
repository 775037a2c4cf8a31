//! The task a connection runs in, and what must happen when it ends.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::runtime::Handle as Runtime;

use super::classify::Classifier;
use super::context::Context;
use super::members::Members;
use super::trust::Trust;
use super::{Backoff, Connection};
use crate::engine::core::Core;
use crate::engine::defect::{Defect, seeded};
use crate::engine::registry::Link;
use crate::engine::sweeper;
use crate::error::CloseReason;
use crate::observe::{ConnectionId, Event, Status};
use crate::protocol::Lane;

/// Runs the connection at the other end of `link`.
pub(crate) fn spawn(core: &Arc<Core>, runtime: &Runtime, link: Link) {
    let id = link.id;
    let running = Running::new(core, &link);
    let mut connection = Connection::new(core, link);
    core.runs_on(runtime);
    let task = runtime.spawn(async move {
        let mut running = running;
        let reason = connection.run().await;
        running.host = connection.host.take();
        running.end(reason, connection.was_stable, connection.floor);
    });
    core.running(id, task.abort_handle());
}

impl Connection {
    fn new(core: &Arc<Core>, link: Link) -> Self {
        // One seed per manager, and a generator of its own for each connection.
        let own = if seeded(Defect::JitterIsShared) { 0 } else { link.id.0 };
        let seed = core.seed ^ own.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let members = Members::new(core, link.id, seed);
        Self {
            backoff: Backoff::new(core.config.retry.clone(), seed),
            classifier: Classifier::default(),
            context: Context {
                config: Arc::clone(&core.config),
                core: Arc::downgrade(core),
                link,
                members,
                metrics: Arc::clone(&core.metrics),
                overruled: None,
                protocol: Arc::clone(&core.protocol),
                random: SmallRng::seed_from_u64(!seed),
                sleeps: Arc::clone(&core.sleeps),
                spawn,
                wall: core.wall,
            },
            events: Arc::clone(&core.events),
            floor: Duration::ZERO,
            host: None,
            limiter: core.limiter.clone(),
            present: None,
            status: Status::Connecting { attempt: 1 },
            transport: Arc::clone(&core.transport),
            trust: Trust::new(core.tokens.clone()),
            was_stable: false,
        }
    }
}

/// A running connection. What must happen when it ends is done on drop, so that no reader waits for
/// ever on a task that panicked or whose runtime is gone.
pub(crate) struct Running {
    core: Weak<Core>,
    floor: Duration,
    /// Where its sockets led, once one has failed.
    host: Option<String>,
    id: ConnectionId,
    lane: Lane,
    reason: CloseReason,
    was_stable: bool,
}

impl Running {
    pub(crate) fn new(core: &Arc<Core>, link: &Link) -> Self {
        Self {
            core: Arc::downgrade(core),
            floor: Duration::ZERO,
            host: None,
            id: link.id,
            lane: link.lane.clone(),
            reason: CloseReason::Aborted,
            was_stable: false,
        }
    }

    /// The connection has ended in an orderly way. Without this, it was cut off.
    pub(crate) fn end(&mut self, reason: CloseReason, was_stable: bool, floor: Duration) {
        self.floor = floor;
        self.was_stable = was_stable;
        self.reason = reason;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        let (id, lane, reason) = (self.id, &self.lane, &self.reason);
        if matches!(reason, CloseReason::Unused) {
            tracing::debug!(connection = %id, ?lane, "connection closed");
        } else {
            let host = self.host.as_deref();
            let to = host.map(|host| format!("{host}: ")).unwrap_or_default();
            let label = reason.label();
            tracing::warn!(
                connection = %id, ?lane, host, reason = label,
                "connection closed for good: {to}{reason}",
            );
            // Before its streams end: who subscribes again on seeing that must find it.
            core.punish(lane, self.was_stable, self.floor);
            sweeper::wake(&core); // To forget it in time.
            core.abandon(id, reason);
        }
        core.events.push(|| Event::Closed {
            connection: id,
            lane: lane.clone(),
            reason: reason.clone(),
        });
        core.finished(id, lane);
    }
}
