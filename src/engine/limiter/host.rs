//! One host: who may dial it now, and how long the others have to wait.
//!
//! Plain data and arithmetic: no clock, no task.
//!
//! A dial counts from its start until a window after its end. Whoever starts one thus has fewer than
//! the bound behind it that began, or ended, within the last window.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::queue::Queue;
use crate::config::DialRate;
use crate::engine::defect::{Defect, seeded};

#[derive(Debug)]
pub(super) struct Host {
    /// When the handshakes were over that still count, in order.
    ended: VecDeque<Instant>,
    in_flight: usize,
    paused_until: Option<Instant>,
    pub(super) queue: Queue,
    pub(super) rate: DialRate,
}

/// What whoever has no turn yet waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Waiting {
    /// The place in the host's queue, from 1.
    pub(crate) position: usize,
    /// The turn does not come before this; `None` where it hangs on handshakes under way.
    pub(crate) until: Option<Instant>,
}

impl Host {
    pub(super) fn new(rate: DialRate) -> Self {
        Self {
            ended: VecDeque::new(),
            in_flight: 0,
            paused_until: None,
            queue: Queue::default(),
            rate,
        }
    }

    /// Lets `ticket` start if it is its turn: nobody does before `stopped` is over, if it is given,
    /// nor while `max` handshakes are under way.
    pub(super) fn admit(
        &mut self,
        ticket: u64,
        max: usize,
        stopped: Option<Instant>,
        now: Instant,
    ) -> Result<(), Waiting> {
        self.forget_old(now);
        let position = self.queue.position(ticket);
        let until = stopped.max(self.paused_until).max(self.room_at(position));
        let is_first = position == 1 || seeded(Defect::TurnBarges);
        let has_room = self.in_flight < max && self.ended.len() + self.in_flight < self.bound();
        if !is_first || !has_room || until.is_some() {
            return Err(Waiting { position, until });
        }
        self.in_flight += 1;
        Ok(())
    }

    /// A handshake is over; it counts for a window more if the server may have seen it.
    pub(super) fn done(&mut self, counts: bool, now: Instant) {
        self.in_flight -= 1;
        if counts && !self.rate.window().is_zero() {
            self.ended.push_back(now);
        }
    }

    /// A pause is never shortened.
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.forget_old(now);
        let is_quiet = self.ended.is_empty() && self.paused_until.is_none();
        is_quiet && self.in_flight == 0 && self.queue.is_empty()
    }

    fn forget_old(&mut self, now: Instant) {
        let window = self.rate.window();
        while self.ended.front().is_some_and(|ended| *ended + window <= now) {
            self.ended.pop_front();
        }
        self.paused_until = self.paused_until.filter(|until| *until > now);
    }

    fn bound(&self) -> usize {
        usize::try_from(self.rate.dials()).unwrap_or(usize::MAX)
    }

    /// Before when the rate has no room for whoever is at `position`, if all before it go as soon as
    /// they may; `None` if there is room, or if it hangs on handshakes under way.
    fn room_at(&self, position: usize) -> Option<Instant> {
        let bound = self.bound();
        // One is let in a window after the one that was let in `bound` before it.
        let (rounds, position) = ((position - 1) / bound, (position - 1) % bound + 1);
        let over = (self.ended.len() + self.in_flight + position).checked_sub(bound)?;
        let first = *self.ended.get(over.checked_sub(1)?)? + self.rate.window();
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        first.checked_add(self.rate.window().checked_mul(rounds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MAX: usize = 100;

    /// How long each of `waiters` has to wait at least, in seconds.
    fn waits(host: &mut Host, waiters: &[u64], now: Instant) -> Vec<Option<u64>> {
        let until = |ticket: &u64| host.admit(*ticket, MAX, None, now).unwrap_err().until;
        waiters.iter().map(until).map(|u| u.map(|u| (u - now).as_secs())).collect()
    }

    fn go(host: &mut Host, now: Instant) {
        let ticket = host.queue.join();
        host.admit(ticket, MAX, None, now).unwrap();
        assert!(host.queue.leave(ticket).is_none());
    }

    #[test]
    fn each_is_told_before_when_it_cannot_be_its_turn() {
        let mut host = Host::new(DialRate::new(2, 10 * SECOND));
        let now = Instant::now();
        go(&mut host, now);
        go(&mut host, now);
        let waiters: Vec<_> = (0..5).map(|_| host.queue.join()).collect();
        assert_eq!(waits(&mut host, &waiters[..1], now), [None], "it hangs on those under way");
        host.done(true, now);
        host.done(true, now + SECOND);
        let seconds = [10, 11, 20, 21, 30].map(Some);
        assert_eq!(waits(&mut host, &waiters, now), seconds);
        host.pause(now + 15 * SECOND);
        let seconds = [15, 15, 20, 21, 30].map(Some);
        assert_eq!(waits(&mut host, &waiters, now), seconds);
    }

    #[test]
    fn what_the_server_cannot_have_seen_does_not_count() {
        let mut host = Host::new(DialRate::new(1, SECOND));
        let now = Instant::now();
        go(&mut host, now);
        host.done(false, now);
        go(&mut host, now);
        host.done(true, now);
        let ticket = host.queue.join();
        assert_eq!(waits(&mut host, &[ticket], now), [Some(1)]);
        host.admit(ticket, MAX, None, now + SECOND).unwrap();
    }

    #[test]
    fn a_host_is_forgotten_when_nothing_counts_any_more() {
        let mut host = Host::new(DialRate::new(1, SECOND));
        let now = Instant::now();
        go(&mut host, now);
        assert!(!host.is_idle(now));
        host.done(true, now);
        assert!(!host.is_idle(now));
        host.pause(now + 2 * SECOND);
        assert!(!host.is_idle(now + SECOND));
        assert!(host.is_idle(now + 2 * SECOND));
    }
}
