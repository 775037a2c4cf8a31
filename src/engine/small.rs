//! Collections of what is one thing most of the time, or none: those hold nothing on the heap.
//!
//! Most connections carry one name. A B-tree has nodes for eleven keys and keeps its last one when it
//! is empty, and a hash map begins with several places: with one socket per name, that was a third of
//! what a connection took.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Included, Unbounded};
use std::ops::{Deref, DerefMut};

use crate::name::StreamName;

/// An ordered set.
#[derive(Clone, Debug, Default)]
#[expect(clippy::box_collection, reason = "else a set of one would be as large as one of many")]
pub(crate) enum Few<T> {
    Many(Box<BTreeSet<T>>),
    #[default]
    None,
    One(T),
}

impl<T: Ord> Few<T> {
    pub(crate) fn insert(&mut self, item: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(item),
            Self::One(one) if one == item => Self::One(one),
            Self::One(one) => Self::Many(Box::new(BTreeSet::from([one, item]))),
            Self::Many(mut many) => {
                many.insert(item);
                Self::Many(many)
            }
        };
    }

    pub(crate) fn remove(&mut self, item: &T) {
        let is_empty = match self {
            Self::Many(many) => {
                many.remove(item);
                many.is_empty()
            }
            Self::None => true,
            Self::One(one) => one == item,
        };
        if is_empty {
            *self = Self::None;
        }
    }

    pub(crate) fn first(&self) -> Option<&T> {
        match self {
            Self::Many(many) => many.first(),
            Self::None => None,
            Self::One(one) => Some(one),
        }
    }

    pub(crate) fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        match self {
            Self::Many(many) => many.contains(item),
            Self::None => false,
            Self::One(one) => one.borrow() == item,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Many(many) => many.len(),
            Self::None => 0,
            Self::One(_) => 1,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them in order, or those from `from` on.
    pub(crate) fn iter_from(&self, from: Option<&T>) -> impl Iterator<Item = &T> + Clone {
        let (one, many) = match self {
            Self::Many(many) => (None, Some(many)),
            Self::None => (None, None),
            Self::One(one) => (Some(one).filter(|one| from.is_none_or(|from| from <= *one)), None),
        };
        let start = from.map_or(Unbounded, Included);
        let many = many.into_iter().flat_map(move |many| many.range((start, Unbounded)));
        one.into_iter().chain(many)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.iter_from(None)
    }

    /// All of them in order.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = T> {
        let (one, many) = match self {
            Self::Many(many) => (None, *many),
            Self::None => (None, BTreeSet::new()),
            Self::One(one) => (Some(one), BTreeSet::new()),
        };
        one.into_iter().chain(many)
    }
}

/// An ordered set of what is there now and then, as a deadline is: as long as it is empty, it takes no
/// more than a pointer's room.
#[derive(Clone, Debug)]
pub(crate) struct Rare<T>(Option<Box<Few<T>>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Ord> Rare<T> {
    pub(crate) fn insert(&mut self, item: T) {
        self.0.get_or_insert_default().insert(item);
    }

    pub(crate) fn remove(&mut self, item: &T) {
        if let Some(few) = &mut self.0 {
            few.remove(item);
        }
        self.0.take_if(|few| few.is_empty());
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.0.as_ref()?.first()
    }

    pub(crate) fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.as_ref().is_some_and(|few| few.contains(item))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// All of them in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().flat_map(|few| few.iter())
    }
}

/// A list of what is there now and then: as long as it is empty, it takes no more than a pointer's room.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a vector takes three words, also where it is empty")]
pub(crate) struct Seldom<T>(Option<Box<Vec<T>>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Seldom<T> {
    pub(crate) fn push(&mut self, item: T) {
        self.0.get_or_insert_default().push(item);
    }

    /// Takes all of them.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.0.take().map_or_else(Vec::new, |items| *items)
    }

    pub(crate) fn retain(&mut self, is_kept: impl FnMut(&T) -> bool) {
        if let Some(items) = &mut self.0 {
            items.retain(is_kept);
        }
        self.0.take_if(|items| items.is_empty());
    }
}

impl<T> Deref for Seldom<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl<T> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_deref_mut().map_or(&mut [], Vec::as_mut_slice)
    }
}

/// Keys by name.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "else an index of one would be as large as a map")]
pub(crate) enum Index {
    Many(Box<HashMap<StreamName, usize>>),
    #[default]
    None,
    One(StreamName, u32),
}

impl Index {
    pub(crate) fn get(&self, name: &str) -> Option<usize> {
        match self {
            Self::Many(many) => many.get(name).copied(),
            Self::One(one, key) if one.as_str() == name => Some(*key as usize),
            Self::None | Self::One(..) => None,
        }
    }

    pub(crate) fn insert(&mut self, name: StreamName, key: usize) {
        *self = match std::mem::take(self) {
            Self::None => Self::alone(name, key),
            Self::One(one, _) if one == name => Self::alone(one, key),
            Self::One(one, its) => Self::many([(one, its as usize), (name, key)]),
            Self::Many(mut many) => {
                many.insert(name, key);
                Self::Many(many)
            }
        };
    }

    fn alone(name: StreamName, key: usize) -> Self {
        match u32::try_from(key) {
            Ok(key) => Self::One(name, key),
            Err(_) => Self::many([(name, key)]),
        }
    }

    fn many<const N: usize>(keys: [(StreamName, usize); N]) -> Self {
        Self::Many(Box::new(HashMap::from(keys)))
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let is_empty = match self {
            Self::Many(many) => {
                many.remove(name);
                many.is_empty()
            }
            Self::None => true,
            Self::One(one, _) => one.as_str() == name,
        };
        if is_empty {
            *self = Self::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn they_hold_what_those_of_the_standard_library_do(
            steps in proptest::collection::vec((any::<bool>(), 0..4_usize), 0..40),
        ) {
            let (mut few, mut rare, mut set) = (Few::default(), Rare::default(), BTreeSet::new());
            let (mut index, mut map) = (Index::default(), HashMap::new());
            for (n, (inserts, item)) in steps.into_iter().enumerate() {
                let name = StreamName::try_from(&*format!("s{item}")).unwrap();
                if inserts {
                    few.insert(item);
                    rare.insert(item);
                    set.insert(item);
                    index.insert(name.clone(), n);
                    map.insert(name, n);
                } else {
                    few.remove(&item);
                    rare.remove(&item);
                    set.remove(&item);
                    index.remove(name.as_str());
                    map.remove(&name);
                }
                prop_assert!(few.iter().eq(&set) && few.clone().into_iter().eq(set.clone()));
                prop_assert_eq!((few.len(), few.first()), (set.len(), set.first()));
                prop_assert_eq!((few.is_empty(), few.contains(&1)), (set.is_empty(), set.contains(&1)));
                prop_assert!(few.iter_from(Some(&2)).eq(set.range(2..)));
                prop_assert!(rare.iter().eq(&set));
                prop_assert_eq!((rare.is_empty(), rare.first()), (set.is_empty(), set.first()));
                prop_assert_eq!(rare.contains(&1), set.contains(&1));
                for name in ["s0", "s1", "s2", "s3"] {
                    prop_assert_eq!(index.get(name), map.get(name).copied());
                }
            }
        }
    }

    #[test]
    fn a_list_that_is_seldom_there_takes_no_room_without() {
        let mut seldom = Seldom::default();
        assert!(seldom.is_empty() && seldom.take().is_empty());
        (1..=3).for_each(|item| seldom.push(item));
        seldom.sort_by_key(|item| std::cmp::Reverse(*item));
        seldom.retain(|item| *item != 2);
        assert_eq!(*seldom, [3, 1]);
        seldom.retain(|_| false);
        assert!(seldom.0.is_none());
        seldom.push(4);
        assert_eq!(seldom.take(), [4]);
        assert!(seldom.0.is_none());
    }

    #[test]
    fn one_alone_or_none_is_not_on_the_heap() {
        let mut few = Few::default();
        few.insert(1);
        few.insert(1);
        assert!(matches!(few, Few::One(1)));
        few.insert(2);
        [1, 2].iter().for_each(|item| few.remove(item));
        assert!(matches!(few, Few::None));
    }
}
