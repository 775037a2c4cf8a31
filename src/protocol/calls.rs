//! Calls to a venue that wait for an answer, by the numbers in which they were made.

use std::collections::{BTreeMap, HashSet};

/// How many may wait.
const MOST: usize = 1024;

/// Calls to join and leave that wait for an answer, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u64,
    waiting: BTreeMap<u64, Call>,
}

/// A call that is not answered in full: the keys that wait for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Call {
    pub(super) joins: bool,
    pub(super) keys: Vec<Box<str>>,
}

impl Calls {
    /// The number for a call.
    pub(super) fn add(&mut self, joins: bool, keys: Vec<Box<str>>) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, Call { joins, keys });
        self.last
    }

    /// A number for what waits for nothing here.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether the server answers so little that it is of no use any more.
    pub(super) fn are_too_many(&self) -> bool {
        self.waiting.len() > MOST
    }

    /// `key` is answered. Those of the one kind alone.
    pub(super) fn settle(&mut self, key: &str, joins: bool) {
        self.waiting.retain(|_, call| {
            if call.joins == joins {
                call.keys.retain(|other| **other != *key);
            }
            !call.keys.is_empty()
        });
    }

    pub(super) fn get(&self, number: u64) -> Option<&Call> {
        self.waiting.get(&number)
    }

    pub(super) fn take(&mut self, number: u64) -> Option<Call> {
        self.waiting.remove(&number)
    }

    /// The same, if it is of this kind.
    pub(super) fn take_of(&mut self, number: u64, joins: bool) -> Option<Call> {
        self.get(number).filter(|call| call.joins == joins)?;
        self.take(number)
    }

    /// Of each key, the oldest call that waits for it: whether it joins, and its number.
    pub(super) fn oldest_of_each(&self) -> Vec<(Box<str>, bool, u64)> {
        let (mut seen, mut oldest) = (HashSet::new(), Vec::new());
        for (number, call) in &self.waiting {
            for key in call.keys.iter().filter(|key| seen.insert(&***key)) {
                oldest.push((key.clone(), call.joins, *number));
            }
        }
        oldest
    }

    /// The oldest call that waits for `key` is answered. Whether it joins; `None` if none waits.
    pub(super) fn answered(&mut self, key: &str) -> Option<bool> {
        let has = |call: &Call| call.keys.iter().any(|other| **other == *key);
        let (number, call) = self.waiting.iter_mut().find(|(_, call)| has(call))?;
        let (number, joins) = (*number, call.joins);
        call.keys.retain(|other| **other != *key);
        if call.keys.is_empty() {
            self.waiting.remove(&number);
        }
        Some(joins)
    }

    /// The one of this kind that waits longest.
    pub(super) fn take_oldest_of(&mut self, joins: bool) -> Option<Call> {
        let (number, _) = self.waiting.iter().find(|(_, call)| call.joins == joins)?;
        let number = *number;
        self.take(number)
    }

    /// The one that waits longest.
    pub(super) fn take_oldest(&mut self) -> Option<Call> {
        self.waiting.pop_first().map(|(_, call)| call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_wait_for_their_keys() {
        let mut calls = Calls::default();
        let keys = |keys: &[&str]| keys.iter().map(|key| Box::from(*key)).collect::<Vec<_>>();
        assert_eq!((calls.add(true, keys(&["a", "b"])), calls.add(false, keys(&["a"]))), (1, 2));
        calls.settle("a", true);
        assert_eq!(calls.get(1), Some(&Call { joins: true, keys: keys(&["b"]) }));
        calls.settle("a", false);
        assert_eq!((calls.take(2), calls.number(), calls.are_too_many()), (None, 3, false));
        calls.settle("b", true);
        assert_eq!(calls.take_oldest(), None);
        calls.add(true, keys(&["a", "b"]));
        calls.add(false, keys(&["a"]));
        let oldest = calls.oldest_of_each();
        assert_eq!(oldest, [("a".into(), true, 4), ("b".into(), true, 4)]);
        assert_eq!(
            (calls.answered("a"), calls.answered("a"), calls.answered("a")),
            (Some(true), Some(false), None)
        );
        assert_eq!((calls.take_of(4, false), calls.take_oldest_of(false)), (None, None));
        assert_eq!(calls.take_oldest_of(true), Some(Call { joins: true, keys: keys(&["b"]) }));
    }
}
