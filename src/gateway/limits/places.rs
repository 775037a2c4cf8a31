//! Places that are taken and given back, by key: connections of a user, of an address.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gateway::defect::{Defect, seeded};

/// How many each key has taken. Keys that have none are not kept.
#[derive(Debug)]
pub(in crate::gateway) struct Places<K>(Arc<Mutex<HashMap<K, usize>>>);

/// A place, until it is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Place<K: Eq + Hash> {
    key: K,
    places: Places<K>,
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// Takes a place, if `key` has fewer than `most`.
    pub(in crate::gateway) fn take(&self, key: &K, most: usize) -> Option<Place<K>> {
        let mut taken = self.lock();
        let count = taken.get(key).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        taken.insert(key.clone(), count + 1);
        drop(taken);
        Some(Place { key: key.clone(), places: self.clone() })
    }

    /// How many places a key has.
    pub(in crate::gateway) fn count(&self, key: &K) -> usize {
        self.lock().get(key).copied().unwrap_or(0)
    }
}

impl<K> Places<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        if seeded(Defect::PlaceIsKept) {
            return;
        }
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_so_many_places_and_gets_one_back_when_it_is_dropped() {
        let places = Places::default();
        let first = places.take(&"ann", 2);
        let second = places.take(&"ann", 2);
        assert!(first.is_some() && second.is_some());
        assert!(places.take(&"ann", 2).is_none());
        let other = places.take(&"bob", 2);
        assert!(other.is_some(), "another key has its own");
        drop(first);
        assert!(places.take(&"ann", 2).is_some());
        assert!(places.take(&"eve", 0).is_none());
        drop((second, other));
        assert_eq!(places.lock().len(), 0, "nothing is kept of who has gone");
    }

    #[test]
    fn threads_that_come_and_go_leave_nothing_and_never_have_more_than_they_may() {
        let places = Places::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let place = places.take(&1, 3);
                        assert!(places.count(&1) <= 3);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(places.lock().len(), 0);
    }
}
