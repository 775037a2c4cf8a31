//! When a connection has another one take its place, and how it goes about it.
//!
//! The old socket stays as it is until each of its streams has gone over, see
//! [`topic`](crate::engine::topic): this file only says when, and opens the successor. If that one
//! fails, the old one stays, and tries again later.

use std::time::Duration;

use rand::RngExt as _;
use tokio::runtime::Handle as Runtime;
use tokio::time::Instant;

use super::context::Context;
use crate::engine::moment::Moment;
use crate::engine::registry::Link;
use crate::engine::topic::Moved;
use crate::observe::{Event, HandoverReason};

/// The longest time between two attempts to be replaced.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// When an open socket is to be replaced.
#[derive(Debug)]
pub(super) struct Replacement {
    attempts: u32,
    due: Option<Moment>,
    /// Why, once it is due.
    reason: HandoverReason,
}

impl Replacement {
    /// Of a socket that opens at `now`: it is replaced in the last fifth of its time, so that
    /// sockets which opened together are not replaced together.
    pub(super) fn new(of: &mut Context, now: Instant) -> Self {
        let of_lane = of.tools.protocol.limits(&of.link.lane).max_age;
        let age = [of.tools.config.max_age, of_lane].into_iter().flatten().min();
        let due = age.map(|age| (now + age.mul_f64(of.random.random_range(0.8..1.0))).into());
        Self { attempts: 0, due, reason: HandoverReason::Age }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.map(Moment::at)
    }

    /// The server goes on with this socket for `within`.
    pub(super) fn hurry(&mut self, within: Duration, of: &mut Context, now: Instant) {
        let due = Moment::from(now + within.mul_f64(of.random.random_range(0.0..0.5)));
        if self.due.is_none_or(|before| due < before) {
            (self.due, self.reason) = (Some(due), HandoverReason::Announced);
        }
    }

    /// Why the socket is to be replaced, once that is due.
    pub(super) fn reason(&self) -> HandoverReason {
        self.reason
    }

    /// Hands the streams over to another socket, and says when to do it again if some stay.
    pub(super) fn begin(&mut self, reason: HandoverReason, of: &mut Context, now: Instant) {
        let config = &of.tools.config;
        let wait = config.connect_timeout + config.join_timeout + config.handover_timeout;
        let wait = wait.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_WAIT.max(wait));
        self.attempts += 1;
        self.reason = reason;
        self.due = Some((now + wait.mul_f64(of.random.random_range(1.0..1.5))).into());
        hand_over(reason, None, of);
    }
}

/// Hands the streams over to a socket at base `home`, and at no other. Returns whether one is to be
/// opened.
pub(super) fn go_home(of: &Context, home: u16) -> bool {
    hand_over(HandoverReason::Home, Some(home), of)
}

/// Returns whether another socket is to be opened.
fn hand_over(reason: HandoverReason, home: Option<u16>, of: &Context) -> bool {
    let (Some(core), Ok(runtime)) = (of.core.upgrade(), Runtime::try_current()) else {
        return false;
    };
    let Some(link) = core.hand_over(of.link.id) else { return false };
    let Link { id: connection, lane, .. } = &of.link;
    tracing::info!(
        %connection, successor = %link.id, ?lane, reason = reason.label(),
        "another socket is to take over",
    );
    of.tools.metrics.hands_over(reason);
    of.tools.events.push(|| Event::HandingOver {
        connection: *connection,
        successor: Some(link.id),
        lane: lane.clone(),
        reason,
    });
    (of.spawn)(&core, &runtime, link, home);
    true
}

/// Tells the registry where handovers have led.
pub(super) fn tell_moved(of: &mut Context) {
    let moved = of.members.take_moved();
    if moved.is_empty() {
        return;
    }
    let Some(core) = of.core.upgrade() else { return };
    for (topic, moved) in moved {
        let name = &topic.name;
        let Some(moved) = moved else {
            tracing::warn!(
                connection = %of.link.id, %name,
                "stream {name} stays on its old socket: the new one brings nothing",
            );
            core.stays(&topic, of.link.id);
            continue;
        };
        core.took_over(&topic); // It tells the one that has it now.
        let aligned = moved == Moved::Aligned;
        tracing::debug!(%name, aligned, "stream moved to another socket");
        core.events.push(|| Event::StreamMoved { name: name.clone(), aligned });
    }
}
