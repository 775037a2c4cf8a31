//! Which keys were there already, as far as is remembered.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// The last keys that were new, in order.
#[derive(Debug)]
pub(super) struct Window<K> {
    keys: HashSet<K>,
    max: usize,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash> Window<K> {
    pub(super) fn new(max: usize) -> Self {
        Self { keys: HashSet::new(), max: max.max(1), order: VecDeque::new() }
    }

    /// Whether `key` is new. It is none any more.
    pub(super) fn is_new(&mut self, key: K) -> bool {
        if self.keys.contains(&key) {
            return false;
        }
        if self.order.len() >= self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.keys.remove(&oldest);
            }
        }
        self.order.push_back(key.clone());
        self.keys.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_and_again_when_it_is_forgotten() {
        let mut window = Window::new(3);
        assert!([1, 2, 3].map(|key| window.is_new(key)).iter().all(|new| *new));
        assert!(![1, 3, 2, 1].map(|key| window.is_new(key)).iter().any(|new| *new));
        assert!(window.is_new(4), "and 1 is forgotten");
        assert!(!window.is_new(2) && window.is_new(1));
        assert_eq!((window.keys.len(), window.order.len()), (3, 3));
    }

    #[test]
    fn one_key_is_remembered_at_least() {
        let mut window = Window::new(0);
        assert!(window.is_new(1) && !window.is_new(1) && window.is_new(2));
    }
}
