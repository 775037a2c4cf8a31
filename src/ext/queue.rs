//! A queue whose values are found by key.
//!
//! # Invariants
//!
//! 1. Values leave in the order in which their keys came. A key that is there keeps its place.
//! 2. A key is stored once and needs no `Clone`: the front leaves without its key, which stays
//!    behind until the index is full, and is then swept out with all others of its kind.
//! 3. So there are at most some times as many keys as there ever were values at once, and a step
//!    takes constant time on average.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

pub(super) struct KeyedQueue<K, V> {
    /// The number of each key's value: those below `first` have left.
    index: HashMap<K, u64>,
    values: VecDeque<V>,
    /// The number of the front.
    first: u64,
}

impl<K, V> KeyedQueue<K, V> {
    pub(super) fn new() -> Self {
        Self { index: HashMap::new(), values: VecDeque::new(), first: 0 }
    }

    pub(super) fn front(&self) -> Option<&V> {
        self.values.front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn pop_front(&mut self) -> Option<V> {
        let value = self.values.pop_front()?;
        self.first += 1;
        Some(value)
    }
}

impl<K: Eq + Hash, V> KeyedQueue<K, V> {
    /// Puts a value in the place of the one with the same key, or at the end.
    pub(super) fn put(&mut self, key: K, value: V) {
        if let Err((place, value)) = self.try_push(key, value) {
            self.values[place] = value;
        }
    }

    /// Puts a value at the end, unless its key is there; whether it did.
    pub(super) fn push_new(&mut self, key: K, value: V) -> bool {
        self.try_push(key, value).is_ok()
    }

    /// Puts a value at the end. If its key is there, the value comes back with the other's place.
    fn try_push(&mut self, key: K, value: V) -> Result<(), (usize, V)> {
        self.make_room();
        let end = self.first + self.values.len() as u64;
        let number = self.index.entry(key).or_insert(u64::MAX);
        match number.checked_sub(self.first) {
            Some(place) if *number < end => return Err((place as usize, value)),
            _ => *number = end,
        }
        self.values.push_back(value);
        Ok(())
    }

    /// Sweeps out the keys that have left, rather than letting the index grow for them.
    fn make_room(&mut self) {
        if self.index.len() < self.index.capacity() || self.index.len() == self.values.len() {
            return;
        }
        let first = self.first;
        self.index.retain(|_, number| *number >= first);
        // Room for as many again, so that the next sweep is that far away.
        self.index.reserve(self.index.len().max(4));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Pop,
        Put(u8),
        PushNew(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Pop),
            3 => (0..40_u8).prop_map(Step::Put),
            2 => (0..40_u8).prop_map(Step::PushNew),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn a_queue_does_as_a_list_of_pairs_does(steps in steps()) {
            let mut queue = KeyedQueue::new();
            let mut list: Vec<(u8, usize)> = Vec::new();
            let mut most = 0;
            for (value, step) in steps.into_iter().enumerate() {
                let find = |list: &[(u8, usize)], key| list.iter().position(|(k, _)| *k == key);
                match step {
                    Step::Pop => {
                        let front = (!list.is_empty()).then(|| list.remove(0).1);
                        prop_assert_eq!(queue.pop_front(), front);
                    }
                    Step::Put(key) => {
                        queue.put(key, value);
                        match find(&list, key) {
                            Some(place) => list[place].1 = value,
                            None => list.push((key, value)),
                        }
                    }
                    Step::PushNew(key) => {
                        let is_new = find(&list, key).is_none();
                        prop_assert_eq!(queue.push_new(key, value), is_new);
                        if is_new {
                            list.push((key, value));
                        }
                    }
                }
                most = most.max(list.len());
                prop_assert_eq!(queue.len(), list.len());
                prop_assert_eq!(queue.is_empty(), list.is_empty());
                prop_assert_eq!(queue.front().copied(), list.first().map(|pair| pair.1));
                prop_assert!(queue.index.len() <= 4 * most.max(4), "{} keys", queue.index.len());
            }
        }
    }

    #[test]
    fn keys_that_left_do_not_pile_up() {
        let mut queue = KeyedQueue::new();
        for key in 0..1_000_000_u32 {
            queue.put(key, ());
            if queue.len() > 100 {
                queue.pop_front();
            }
            assert!(queue.index.len() < 500, "{} keys", queue.index.len());
        }
    }
}
