//! How two lists that are parts of one feed lie over each other.
//!
//! One was *delivered*, the other is *held*. A *shift* is the place in the first list at which the
//! second begins. Below zero, the second began earlier than the record: what was before the record
//! was delivered before it, or its reader was told that it was not. A shift is possible if both lists are equal wherever they
//! overlap, and they do overlap. Values that repeat make several shifts possible, and a wrong one
//! loses or repeats messages, so the likeliest has to be proved: see [`Overlap::proof`].

/// The most likely way in which the lists lie over each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Overlap {
    pub(super) shift: isize,
    len: usize,
    /// How near the nearest other possible shift is.
    nearest: usize,
    /// How long the longest other possible overlap is.
    other: usize,
}

impl Overlap {
    /// Whether no other shift is possible.
    pub(super) fn is_only(&self) -> bool {
        self.other == 0
    }

    /// How many messages would have to repeat by accident if another shift were the true one.
    ///
    /// If the lists overlap elsewhere, at a distance `d`, the feed repeats itself after `d` messages
    /// for as long as both overlaps reach: so no more than `d` messages tell the two apart. What the
    /// other overlap explains too proves nothing either.
    pub(super) fn proof(&self) -> usize {
        (self.len - self.other).min(self.nearest)
    }
}

#[expect(clippy::cast_possible_wrap, reason = "counts of messages")]
pub(super) fn signed(count: usize) -> isize {
    count as isize
}

/// The longest overlap of the lists.
pub(super) fn overlap(delivered: &[u64], held: &[u64]) -> Option<Overlap> {
    let mut possible: Vec<(isize, usize)> = Vec::new();
    let lens = agreements(delivered, held);
    let fits = |at: &usize| lens[*at] == delivered.len().min(held.len() - at);
    let earlier = (1..held.len()).rev().filter(fits);
    possible.extend(earlier.map(|at| (-signed(at), lens[at])));
    let lens = agreements(held, delivered);
    let fits = |at: &usize| lens[*at] == held.len().min(delivered.len() - at);
    let later = (0..delivered.len()).filter(fits);
    possible.extend(later.map(|at| (signed(at), lens[at])));
    possible.retain(|(_, len)| *len > 0);

    let at = (0..possible.len()).max_by_key(|at| possible[*at].1)?;
    let (shift, len) = possible[at];
    let neighbours = [at.checked_sub(1), Some(at + 1)].into_iter().flatten();
    let distances = neighbours.filter_map(|at| possible.get(at)).map(|(s, _)| s.abs_diff(shift));
    let nearest = distances.min().unwrap_or(usize::MAX);
    let others = possible.iter().enumerate().filter(|(other, _)| *other != at);
    let other = others.map(|(_, (_, len))| *len).max().unwrap_or(0);
    Some(Overlap { shift, len, nearest, other })
}

/// The shift at which both lists end with the same message, if one is the end of the other.
pub(super) fn in_step(delivered: &[u64], held: &[u64]) -> Option<isize> {
    let is_end = match delivered.len() >= held.len() {
        true => delivered.ends_with(held),
        false => !delivered.is_empty() && held.ends_with(delivered),
    };
    is_end.then(|| signed(delivered.len()) - signed(held.len()))
}

/// For each place of `text`, how many of its values from there on are those that `pattern` begins
/// with: the Z function of the two in a row. Each value is compared twice at most, on average: whoever
/// sends them decides how often they repeat.
fn agreements<T: Copy + PartialEq>(pattern: &[T], text: &[T]) -> Vec<usize> {
    let at = |i: usize| if i < pattern.len() { pattern[i] } else { text[i - pattern.len()] };
    let len = pattern.len() + text.len();
    let mut z = vec![0; len];
    // Where the stretch that reaches farthest of those known to repeat the beginning ends and begins.
    let (mut end, mut start) = (0_usize, 0);
    for i in 1..len {
        z[i] = z[i - start].min(end.saturating_sub(i));
        while i + z[i] < len && at(z[i]) == at(i + z[i]) {
            z[i] += 1;
        }
        (end, start) = (end, start).max((i + z[i], i));
    }
    z.drain(..pattern.len());
    z.iter_mut().for_each(|len| *len = (*len).min(pattern.len()));
    z
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local!(static COMPARED: Cell<usize> = const { Cell::new(0) });

    /// A value that counts how often it is compared with another.
    #[derive(Clone, Copy)]
    struct Counted(u64);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.set(COMPARED.get() + 1);
            self.0 == other.0
        }
    }

    /// Every possible shift, by trying them all.
    fn naive(delivered: &[u64], held: &[u64]) -> Vec<(isize, usize)> {
        let first = 1 - signed(held.len());
        let overlapping = |shift: isize| {
            let pairs = held.iter().enumerate().filter_map(move |(place, held)| {
                let at = usize::try_from(shift + signed(place)).ok()?;
                Some((*delivered.get(at)?, *held))
            });
            pairs.collect::<Vec<_>>()
        };
        let shifts = first..signed(delivered.len());
        let pairs = shifts.map(|shift| (shift, overlapping(shift)));
        let agree = |pairs: &[(u64, u64)]| !pairs.is_empty() && pairs.iter().all(|(a, b)| a == b);
        pairs.filter(|(_, pairs)| agree(pairs)).map(|(shift, pairs)| (shift, pairs.len())).collect()
    }

    fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
        range.collect()
    }

    #[test]
    fn numbered_lists_are_proved_by_all_they_have_in_common() {
        for (delivered, held, shift, proof) in [
            (0..50, 10..60, 10, 40),
            (0..50, 10..30, 10, 20),
            (20..50, 10..60, -10, 30),
            (20..50, 10..30, -10, 10),
            (0..50, 49..99, 49, 1),
        ] {
            let found = overlap(&numbers(delivered), &numbers(held)).unwrap();
            assert_eq!((found.shift, found.proof()), (shift, proof));
        }
        assert_eq!(overlap(&numbers(0..50), &numbers(50..60)), None);
        assert_eq!(overlap(&[], &numbers(10..60)), None);
    }

    #[test]
    fn what_repeats_itself_proves_no_more_than_its_period() {
        let same = [7; 100];
        assert_eq!(overlap(&same, &same[..60]).unwrap().proof(), 0);
        let in_turn: Vec<u64> = (0..100).map(|n| n % 3).collect();
        assert!(overlap(&in_turn, &in_turn[3..]).unwrap().proof() <= 3);
        // A long block that came twice is told apart from itself by nothing.
        let twice = [numbers(0..40), numbers(0..40)].concat();
        assert_eq!(overlap(&twice, &numbers(0..40)).unwrap().proof(), 0);
    }

    #[test]
    fn lists_are_compared_in_linear_time_however_their_values_repeat() {
        const LEN: usize = 1000;
        let same = |_| 7;
        let in_turn = |n| n % 3;
        let rare = |n| u64::from(n % 100 == 0);
        for value in [same, in_turn, rare, |n| n] {
            let values: Vec<_> = (0..LEN as u64).map(|n| Counted(value(n))).collect();
            for (pattern, text) in [(&values[..], &values[1..]), (&values[..9], &values[..])] {
                COMPARED.set(0);
                agreements(pattern, text);
                let most = 2 * (pattern.len() + text.len());
                assert!(COMPARED.get() <= most, "{} of {most}", COMPARED.get());
            }
        }
    }

    #[test]
    fn lists_are_in_step_where_one_is_the_end_of_the_other() {
        assert_eq!(in_step(&[1, 2, 3], &[2, 3]), Some(1));
        assert_eq!(in_step(&[7, 7, 7], &[7, 7]), Some(1));
        assert_eq!(in_step(&[2, 3], &[1, 2, 3]), Some(-1));
        assert_eq!(in_step(&[1, 2, 3], &[2, 3, 4]), None);
        assert_eq!(in_step(&[], &[2]), None);
    }

    proptest! {
        #[test]
        fn the_likeliest_shift_is_the_longest_that_a_naive_search_finds(
            delivered in proptest::collection::vec(0..3_u64, 0..24),
            held in proptest::collection::vec(0..3_u64, 0..24),
        ) {
            let possible = naive(&delivered, &held);
            let found = overlap(&delivered, &held);
            let Some(found) = found else {
                prop_assert!(possible.is_empty(), "{possible:?}");
                return Ok(());
            };
            let longest = possible.iter().map(|(_, len)| *len).max();
            prop_assert_eq!(longest, Some(found.len));
            prop_assert!(possible.contains(&(found.shift, found.len)));
            let others = possible.iter().filter(|(shift, _)| *shift != found.shift);
            let nearest = others.clone().map(|(shift, _)| shift.abs_diff(found.shift)).min();
            prop_assert_eq!(found.nearest, nearest.unwrap_or(usize::MAX));
            prop_assert_eq!(found.other, others.map(|(_, len)| *len).max().unwrap_or(0));
        }
    }
}
