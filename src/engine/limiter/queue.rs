//! Who waits, in the order of their coming, and how many are before each.

use std::collections::BTreeMap;
use std::task::Waker;

/// Tickets per block: a position is counted by whole blocks and then within one, so that it takes
/// some hundred steps among ten thousand.
const BLOCK: u64 = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// How many wait of each block of tickets.
    blocks: BTreeMap<u64, usize>,
    next: u64,
    waiting: BTreeMap<u64, Option<Waker>>,
}

impl Queue {
    /// Takes the last place.
    pub(super) fn join(&mut self) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, None);
        *self.blocks.entry(ticket / BLOCK).or_default() += 1;
        ticket
    }

    /// Gives a place up. The waker is to be dropped after the lock.
    #[must_use = "dropped after the lock"]
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let waker = self.waiting.remove(&ticket)?;
        let block = ticket / BLOCK;
        if let Some(count) = self.blocks.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                self.blocks.remove(&block);
            }
        }
        waker
    }

    /// The place of a ticket, from 1.
    pub(super) fn position(&self, ticket: u64) -> usize {
        let block = ticket / BLOCK;
        let before: usize = self.blocks.range(..block).map(|(_, count)| count).sum();
        before + self.waiting.range(block * BLOCK..ticket).count() + 1
    }

    /// Where the waker of a ticket is kept.
    pub(super) fn waker(&mut self, ticket: u64) -> Option<&mut Option<Waker>> {
        self.waiting.get_mut(&ticket)
    }

    /// Takes the waker of whoever is first.
    pub(super) fn wake_first(&mut self) -> Option<Waker> {
        self.waiting.first_entry()?.get_mut().take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

    use super::*;

    #[test]
    fn positions_are_those_of_a_list_whoever_leaves() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut queue = Queue::default();
        let mut list = Vec::new();
        for _ in 0..2000 {
            if list.is_empty() || random.random_bool(0.6) {
                list.push(queue.join());
            } else {
                let place = random.random_range(0..list.len());
                assert!(queue.leave(list.remove(place)).is_none());
            }
            let places = list.iter().map(|ticket| queue.position(*ticket));
            assert!(places.eq(1..=list.len()));
        }
        list.iter().for_each(|ticket| drop(queue.leave(*ticket)));
        assert!(queue.is_empty() && queue.blocks.is_empty());
    }
}
