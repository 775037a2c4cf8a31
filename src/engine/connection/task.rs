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

/// Runs the connection at the other end of `link`. Its first socket leads to base `home`, if that is
/// given, and to no other.
pub(crate) fn spawn(core: &Arc<Core>, runtime: &Runtime, link: Link, home: Option<u16>) {
    let id = link.id;
    let mut running = Running::new(core, &link);
    let mut connection = Connection::new(core, link, home);
    core.runs_on(runtime);
    let hold = core.hold();
    let task = runtime.spawn(async move {
        // All stay where they were captured, and are dropped in this order. A binding of its own
        // would have a place of its own for as long as the task lives.
        let _ = (&running, &hold);
        let reason = connection.run().await;
        let (floor, was_stable) = (connection.floor, connection.backoff.was_stable());
        running.end(End { floor, host: connection.host.take(), reason, was_stable });
    });
    core.running(id, task.abort_handle());
}

impl Connection {
    fn new(core: &Arc<Core>, link: Link, home: Option<u16>) -> Self {
        // One seed per manager, and a generator of its own for each connection.
        let own = if seeded(Defect::JitterIsShared) { 0 } else { link.id.0.get() };
        let seed = core.seed ^ own.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let members = Members::new(core, link.id, seed);
        Self {
            backoff: Backoff::new(Arc::clone(&core.retry), seed),
            classifier: Classifier::default(),
            context: Context {
                core: Arc::downgrade(core),
                link,
                members,
                overruled: None,
                random: SmallRng::seed_from_u64(!seed),
                spawn,
                tools: core.tools(),
            },
            floor: Duration::ZERO,
            goes_home: home.is_some(),
            host: None,
            present: None,
            status: Some(Box::new(Status::Connecting { attempt: 1 })),
            trust: Trust::new(core.tokens.clone()),
            base: home.unwrap_or_default(),
            blames_base: false,
        }
    }
}

/// A running connection. What must happen when it ends is done on drop, so that no reader waits for
/// ever on a task that panicked or whose runtime is gone.
pub(crate) struct Running {
    core: Weak<Core>,
    /// Until there is one, it would be cut off.
    end: Option<Box<End>>,
    id: ConnectionId,
    lane: Lane,
}

/// How a connection has ended.
#[derive(Debug)]
pub(crate) struct End {
    /// What its lane has to wait at least, after an end by itself.
    pub(crate) floor: Duration,
    /// Where its sockets led.
    pub(crate) host: Option<Box<str>>,
    pub(crate) reason: CloseReason,
    pub(crate) was_stable: bool,
}

impl End {
    /// It had no say in it.
    fn cut_off() -> Self {
        Self { floor: Duration::ZERO, host: None, reason: CloseReason::Aborted, was_stable: false }
    }
}

impl Running {
    pub(crate) fn new(core: &Arc<Core>, link: &Link) -> Self {
        Self { core: Arc::downgrade(core), end: None, id: link.id, lane: link.lane.clone() }
    }

    /// The connection has ended in an orderly way. Without this, it was cut off.
    pub(crate) fn end(&mut self, end: End) {
        self.end = Some(Box::new(end));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        let (id, lane) = (self.id, &self.lane);
        let End { floor, host, reason, was_stable } =
            self.end.take().map_or_else(End::cut_off, |end| *end);
        if matches!(reason, CloseReason::Unused) {
            tracing::debug!(connection = %id, ?lane, "connection closed");
        } else {
            let to = host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
            let label = reason.label();
            tracing::warn!(
                connection = %id, ?lane, host, reason = label,
                "connection closed for good: {to}{reason}",
            );
            // Before its streams end: who subscribes again on seeing that must find it.
            core.punish(lane, was_stable, floor);
            sweeper::wake(&core); // To forget it in time.
            core.abandon(id, &reason);
        }
        core.events.push(|| Event::Closed {
            connection: id,
            lane: lane.clone(),
            reason: reason.clone(),
        });
        core.finished(id, lane);
    }
}
