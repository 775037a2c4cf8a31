//! A queue whose values are found by key.
//!
//! Keys live in the queue, and the index knows them by their hash: so a key is stored once, needs
//! no `Clone`, and is hashed once.
//!
//! # Invariants
//!
//! 1. Values leave in the order in which their keys came. A key that is there keeps its place.
//! 2. The index has, of the entries with one hash, the latest; each entry leads to the next older
//!    one. A number below `first` leads to nothing any more.
//! 3. There is nothing of a key that has left.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

pub(super) struct KeyedQueue<K, V> {
    entries: VecDeque<Entry<K, V>>,
    /// The number of the front; entries are numbered as they come, from one.
    first: u64,
    hasher: RandomState,
    /// From hashes to numbers.
    index: HashMap<u64, u64, BuildHasherDefault<Hashed>>,
}

struct Entry<K, V> {
    hash: u64,
    key: K,
    older: u64,
    value: V,
}

/// There is no such number.
const NONE: u64 = 0;

impl<K, V> KeyedQueue<K, V> {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            first: NONE + 1,
            hasher: RandomState::new(),
            index: HashMap::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn pop_front(&mut self) -> Option<V> {
        let entry = self.entries.pop_front()?;
        if let MapEntry::Occupied(latest) = self.index.entry(entry.hash) {
            if *latest.get() == self.first {
                latest.remove();
            }
        }
        self.first += 1;
        Some(entry.value)
    }
}

impl<K: Eq + Hash, V> KeyedQueue<K, V> {
    /// Puts a value in the place of the one with the same key, or at the end.
    pub(super) fn put(&mut self, key: K, value: V) {
        if let Err((place, value)) = self.push(key, value) {
            self.entries[place].value = value;
        }
    }

    /// Puts a value at the end, unless its key is there; whether it did.
    pub(super) fn push_new(&mut self, key: K, value: V) -> bool {
        self.push(key, value).is_ok()
    }

    /// Puts a value at the end. If its key is there, the value comes back with the other's place.
    fn push(&mut self, key: K, value: V) -> Result<(), (usize, V)> {
        let hash = self.hasher.hash_one(&key);
        let latest = self.index.entry(hash).or_insert(NONE);
        let mut number = *latest;
        // Once round for nearly every key: only those of equal hashes take longer.
        while let Some(place) = number.checked_sub(self.first) {
            let entry = &self.entries[place as usize];
            if entry.key == key {
                return Err((place as usize, value));
            }
            number = entry.older;
        }
        let older = *latest;
        *latest = self.first + self.entries.len() as u64;
        self.entries.push_back(Entry { hash, key, older, value });
        Ok(())
    }
}

/// Hashes what is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Never called: the keys of the index are `u64`.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// A key whose hash other keys have too.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    struct Key {
        hash: u8,
        rest: u8,
    }

    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.hash.hash(state);
        }
    }

    fn key() -> impl Strategy<Value = Key> {
        (0..10_u8, 0..4_u8).prop_map(|(hash, rest)| Key { hash, rest })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pop,
        Put(Key),
        PushNew(Key),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Pop),
            3 => key().prop_map(Step::Put),
            2 => key().prop_map(Step::PushNew),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn a_queue_does_as_a_list_of_pairs_does(steps in steps()) {
            let mut queue = KeyedQueue::new();
            let mut list: Vec<(Key, usize)> = Vec::new();
            for (value, step) in steps.into_iter().enumerate() {
                let find = |list: &[(Key, usize)], key: Key| list.iter().position(|(k, _)| *k == key);
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
                prop_assert_eq!(queue.len(), list.len());
                prop_assert_eq!(queue.is_empty(), list.is_empty());
                let hashes: HashSet<_> = list.iter().map(|(key, _)| key.hash).collect();
                prop_assert_eq!(queue.index.len(), hashes.len());
            }
        }
    }

    #[test]
    fn nothing_is_left_of_a_key_that_left() {
        let mut queue = KeyedQueue::new();
        for key in 0..100_000_u32 {
            queue.put(key, ());
            if queue.len() > 100 {
                queue.pop_front();
            }
        }
        assert_eq!(queue.index.len(), 100);
        assert!(queue.index.capacity() < 500, "{}", queue.index.capacity());
        assert!(queue.entries.capacity() < 500, "{}", queue.entries.capacity());
    }
}
