//! The updates that wait for a snapshot, bounded.

use std::collections::VecDeque;

/// Updates in the order in which they came.
///
/// Those from before the fetch only help a snapshot that is older than the fetch: where there are
/// too many, they are dropped from the front. Those since are needed, and too many of them make the
/// fetch void.
#[derive(Debug)]
pub(super) struct Held<T> {
    /// The fetch that they wait for, by its number, and how many came since it began.
    fetch: (u64, usize),
    max: usize,
    updates: VecDeque<T>,
}

/// There was no room: all updates are dropped.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Overflow {
    /// How many that were, with the one that found no room.
    pub(super) dropped: u64,
}

impl<T> Held<T> {
    pub(super) fn new(max: usize) -> Self {
        Self { fetch: (0, 0), max: max.max(1), updates: VecDeque::new() }
    }

    /// Takes an update; `fetch` is the number of the fetch that is under way.
    pub(super) fn push(&mut self, update: T, fetch: Option<u64>) -> Result<(), Overflow> {
        if let Some(fetch) = fetch.filter(|fetch| *fetch != self.fetch.0) {
            self.fetch = (fetch, 0);
        }
        if self.updates.len() >= self.max {
            if fetch.is_some() && self.fetch.1 >= self.max {
                let dropped = self.updates.len() as u64 + 1;
                self.clear();
                return Err(Overflow { dropped });
            }
            self.updates.pop_front();
        }
        self.fetch.1 += usize::from(fetch.is_some());
        self.updates.push_back(update);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.updates.pop_front()
    }

    /// Gives back what [`pop`](Self::pop) took last.
    pub(super) fn unpop(&mut self, update: T) {
        self.updates.push_front(update);
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.updates = VecDeque::new();
        self.fetch.1 = 0;
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn len(&self) -> usize {
        self.updates.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(held: &mut Held<u32>) -> Vec<u32> {
        std::iter::from_fn(|| held.pop()).collect()
    }

    #[test]
    fn without_a_fetch_the_oldest_make_room() {
        let mut held = Held::new(3);
        assert!((0..10).all(|n| held.push(n, None).is_ok()));
        assert_eq!(all(&mut held), [7, 8, 9]);
    }

    #[test]
    fn during_a_fetch_only_those_from_before_it_make_room() {
        let mut held = Held::new(3);
        assert!((0..3).all(|n| held.push(n, None).is_ok()));
        assert!((3..6).all(|n| held.push(n, Some(1)).is_ok()));
        assert!(held.push(6, None).is_ok(), "it failed");
        assert!((7..10).all(|n| held.push(n, Some(2)).is_ok()));
        assert_eq!(held.push(10, Some(2)), Err(Overflow { dropped: 4 }));
        assert_eq!(held.len(), 0);
        assert!((11..20).all(|n| held.push(n, None).is_ok()));
        assert_eq!(all(&mut held), [17, 18, 19]);
    }

    #[test]
    fn there_is_room_for_one_at_least() {
        let mut held = Held::new(0);
        assert!(held.push(1, Some(1)).is_ok());
        assert_eq!(held.push(2, Some(1)), Err(Overflow { dropped: 2 }));
    }
}
