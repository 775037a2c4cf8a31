//! Whether an open socket leads where it should, where the protocol has several bases.
//!
//! Once it was stable, it says so of its base: those who are elsewhere wait for that. If an earlier base may
//! be dialled, it claims that one, and another socket is to take over there, see
//! [`handover`]. What may be dialled when is the business of
//! [`bases`](crate::engine::bases); this file only asks, at times that are spread.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use super::context::Context;
use super::handover;
use crate::engine::moment::Moment;

/// Over how long the looks of those who are away are spread, once there may be something to see.
const SPREAD: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Home {
    /// Where the socket leads.
    base: u16,
    /// When to look next; never, at the first base that is known to work.
    due: Option<Moment>,
    /// Whether the base knows that this socket was stable.
    vouched: bool,
}

impl Home {
    /// Of a socket to `base` that opens at `now`, where there are several bases.
    pub(super) fn of(base: u16, of: &Context, now: Instant) -> Option<Box<Self>> {
        let due = now.checked_add(of.tools.retry.reset_after).map(Moment::from);
        of.tools.bases.are_several().then(|| Box::new(Self { base, due, vouched: false }))
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.map(Moment::at)
    }

    /// Whether the base has been told that the socket was stable.
    pub(super) fn has_vouched(&self) -> bool {
        self.vouched
    }

    /// Looks, once it is due; the socket has been of use for `joined_for`. Returns whether its streams are to
    /// go over to another one.
    pub(super) fn look(&mut self, joined_for: Duration, of: &mut Context, now: Instant) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        let wait = of.random.random_range(Duration::ZERO..SPREAD);
        if !self.vouched {
            let reset_after = of.tools.retry.reset_after;
            self.vouched = joined_for >= reset_after;
            let left = if self.vouched { wait } else { reset_after - joined_for };
            self.due = now.checked_add(left).map(Moment::from);
            if self.vouched {
                of.tools.bases.works(self.base, now);
                self.due = self.due.filter(|_| self.base > 0);
            }
            return false;
        }
        let (goes, next) = self.go(of, now);
        self.due = next.map(|at| (at.max(now) + wait).into());
        goes
    }

    /// Goes to an earlier base, if there is one to be had. Returns when to look again, too: what could not go
    /// over is to do so later.
    fn go(&self, of: &Context, now: Instant) -> (bool, Option<Instant>) {
        let Some(core) = of.core.upgrade() else { return (false, None) };
        if core.succeeds(of.link.id) {
            return (false, Some(now + SPREAD)); // Its own handover comes first.
        }
        if core.has_successor(of.link.id) {
            core.hand_over(of.link.id);
            return (true, Some(now + SPREAD));
        }
        match of.tools.bases.homeward(self.base, now) {
            Ok(home) if handover::go_home(of, home) => (true, Some(now + SPREAD)),
            Ok(home) => {
                of.tools.bases.withdraw(home);
                (false, Some(now + SPREAD))
            }
            Err(at) => (false, at),
        }
    }
}
