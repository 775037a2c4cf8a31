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
use crate::engine::topic::Moved;
use crate::observe::Event;

/// The longest time between two attempts to be replaced.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// When an open socket is to be replaced.
#[derive(Debug)]
pub(super) struct Replacement {
    attempts: u32,
    due: Option<Moment>,
}

impl Replacement {
    /// Of a socket that opens at `now`: it is replaced in the last fifth of its time, so that
    /// sockets which opened together are not replaced together.
    pub(super) fn new(of: &mut Context, now: Instant) -> Self {
        let of_lane = of.tools.protocol.limits(&of.link.lane).max_age;
        let age = [of.tools.config.max_age, of_lane].into_iter().flatten().min();
        let due = age.map(|age| (now + age.mul_f64(of.random.random_range(0.8..1.0))).into());
        Self { attempts: 0, due }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.map(Moment::at)
    }

    /// The server goes on with this socket for `within`.
    pub(super) fn hurry(&mut self, within: Duration, of: &mut Context, now: Instant) {
        let due = Moment::from(now + within.mul_f64(of.random.random_range(0.0..0.5)));
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Hands the streams over to another socket, and says when to do it again if some stay.
    pub(super) fn begin(&mut self, of: &mut Context, now: Instant) {
        let config = &of.tools.config;
        let wait = config.connect_timeout + config.join_timeout + config.handover_timeout;
        let wait = wait.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_WAIT.max(wait));
        self.attempts += 1;
        self.due = Some((now + wait.mul_f64(of.random.random_range(1.0..1.5))).into());
        hand_over(of);
    }
}

fn hand_over(of: &Context) {
    let (Some(core), Ok(runtime)) = (of.core.upgrade(), Runtime::try_current()) else { return };
    if let Some(link) = core.hand_over(of.link.id) {
        tracing::info!(
            connection = %of.link.id, successor = %link.id, lane = ?of.link.lane,
            "another socket is to take over",
        );
        (of.spawn)(&core, &runtime, link);
    }
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
