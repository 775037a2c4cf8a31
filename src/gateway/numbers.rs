//! Numbers for the events of all names, in one order.
//!
//! A reader of many names is somewhere in each of them. That is one number, if it is told events in the order of
//! their numbers: then it has all up to the last one it was told, of each name. So an event's id is as long
//! for a thousand names as for one, and nothing is kept for who has gone.
//!
//! It holds because a number is taken and its event put where readers look in one step, under the lock of
//! [`Numbers::turn`]: whoever sees that [`upto`](Numbers::upto) is `n` finds all events up to `n`, and only
//! looks at those. The lock is taken once per batch of a name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::positions::Positions;

/// The last number after which numbers are given. Beyond that an epoch is over, long before there are none left.
const LAST: u64 = u64::MAX / 2;

/// One order for all events of a gateway.
#[derive(Debug)]
pub(super) struct Numbers {
    /// A number means something with its epoch alone. Each life of a gateway has its own, but for one that goes on
    /// [after](Self::after) another.
    epoch: u64,
    last: AtomicU64,
    turn: Mutex<()>,
}

/// The right to give numbers. What has one is seen once this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    last: u64,
    numbers: &'a Numbers,
    _turn: MutexGuard<'a, ()>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { epoch: rand::random(), last: AtomicU64::new(0), turn: Mutex::default() }
    }
}

impl Numbers {
    /// Goes on in the same epoch, with higher numbers.
    pub(super) fn after(positions: Positions) -> Self {
        let Positions { epoch, number } = positions;
        if number > LAST {
            return Self::default();
        }
        Self { epoch, last: AtomicU64::new(number), turn: Mutex::default() }
    }

    pub(super) fn positions(&self) -> Positions {
        Positions { epoch: self.epoch, number: self.upto() }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All events up to this one are where readers look.
    pub(super) fn upto(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    pub(super) fn turn(&self) -> Turn<'_> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { last: self.upto(), numbers: self, _turn: turn }
    }

    /// A number that no event has.
    pub(super) fn fresh(&self) -> u64 {
        self.turn().next()
    }
}

impl Turn<'_> {
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.numbers.last.store(self.last, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_are_seen_when_the_turn_is_over() {
        let numbers = Numbers::default();
        let mut turn = numbers.turn();
        assert_eq!((turn.next(), turn.next()), (1, 2));
        assert_eq!(numbers.upto(), 0, "what they stand for is not there yet");
        drop(turn);
        assert_eq!(numbers.upto(), 2);
        assert_eq!(numbers.fresh(), 3);
    }

    #[test]
    fn numbers_go_on_after_those_of_another_life_until_their_epoch_is_over() {
        let numbers = Numbers::after(Positions { epoch: 7, number: LAST });
        assert_eq!((numbers.epoch(), numbers.fresh()), (7, LAST + 1));
        let positions = numbers.positions();
        assert_eq!(positions, Positions { epoch: 7, number: LAST + 1 });
        let numbers = Numbers::after(positions);
        assert_ne!(numbers.epoch(), 7);
        assert_eq!(numbers.fresh(), 1);
    }
}
