use super::*;

fn digest(n: u64) -> Digest {
    Digest { hash: n, len: 1 }
}

fn item(n: u64) -> Item {
    Ok(n.to_string().into())
}

fn overlap(delivered: &[u64], held: &[u64]) -> Overlap {
    let mut overlap = Overlap::default();
    delivered.iter().for_each(|n| overlap.deliver(digest(*n)));
    held.iter().for_each(|n| overlap.hold(digest(*n), item(*n)));
    overlap
}

/// What is left: to be delivered, and to be passed over.
fn rest(overlap: Overlap) -> (Vec<u64>, Vec<u64>) {
    let Rest { ahead, items } = overlap.finish();
    let number = |item: Item| item.unwrap().as_text().unwrap().parse().unwrap();
    let items = items.into_iter().map(number).collect();
    (items, ahead.into_iter().map(|digest| digest.hash).collect())
}

#[test]
fn lists_that_agree_in_three_are_aligned_wherever_either_begins() {
    for (delivered, held, items, ahead) in [
        (&[1, 2, 3][..], &[1, 2, 3][..], &[][..], &[][..]),
        (&[1, 2, 3, 4], &[2, 3, 4, 5, 6], &[5, 6], &[]),
        (&[1, 2, 3, 4, 5], &[2, 3, 4], &[], &[5]),
        (&[3, 4, 5], &[1, 2, 3, 4, 5, 6], &[6], &[]),
        (&[3, 4, 5, 6], &[1, 2, 3, 4, 5], &[], &[6]),
    ] {
        let overlap = overlap(delivered, held);
        assert_eq!(overlap.standing(), Standing::Aligned, "{delivered:?} {held:?}");
        assert_eq!(rest(overlap), (items.to_vec(), ahead.to_vec()), "{delivered:?} {held:?}");
    }
}

#[test]
fn what_is_not_certain_is_not_aligned() {
    for (delivered, held, standing) in [
        (&[][..], &[][..], Standing::Idle),
        (&[1, 2], &[], Standing::Idle),
        (&[1, 2], &[2], Standing::Idle),
        (&[1, 2, 3], &[2, 3], Standing::Idle),
        (&[1, 2], &[2, 3], Standing::Withholding),
        (&[1, 2], &[3], Standing::Withholding),
        (&[], &[3], Standing::Withholding),
        (&[1, 2, 3, 4], &[2, 3, 9], Standing::Withholding),
        (&[2, 3, 4], &[9, 3, 4, 5], Standing::Withholding),
        (&[7, 7, 7, 7], &[7, 7, 7], Standing::Withholding),
        (&[7, 8, 7, 8], &[7, 8, 7], Standing::Withholding),
        (&[7, 7, 8, 8], &[7, 7, 8, 8], Standing::Withholding),
        (&[1, 7, 2, 7, 3], &[1, 7, 2, 7], Standing::Withholding),
        (&[1, 7, 2, 7, 3], &[1, 7, 2, 7, 3], Standing::Aligned),
    ] {
        assert_eq!(overlap(delivered, held).standing(), standing, "{delivered:?} {held:?}");
    }
    let same = [7; 100];
    assert_eq!(overlap(&same, &same).standing(), Standing::Hopeless);
    assert_eq!(rest(overlap(&same, &same)).0.len(), 100);
}

#[test]
fn the_record_is_bounded_and_a_front_that_is_gone_proves_nothing() {
    let numbers: Vec<_> = (0..3 * MAX_MESSAGES as u64).collect();
    let mut overlap = overlap(&numbers, &[]);
    assert_eq!(overlap.delivered.len(), MAX_MESSAGES);
    let first = overlap.delivered[0].hash;
    for n in first - 1..first + 3 {
        overlap.hold(digest(n), item(n));
    }
    assert_eq!(overlap.standing(), Standing::Withholding);
}

#[test]
fn a_break_of_the_other_stream_begins_anew() {
    let mut overlap = overlap(&[1, 2, 3, 4], &[1, 2]);
    overlap.restart();
    assert!(!overlap.holds_any());
    [2, 3, 4, 5].into_iter().for_each(|n| overlap.hold(digest(n), item(n)));
    assert_eq!(overlap.standing(), Standing::Aligned);
    assert_eq!(rest(overlap), (vec![5], vec![]));
}

#[test]
fn what_the_reader_is_ahead_of_is_passed_over_and_a_stranger_is_told() {
    let ahead = |told| Ahead::new([1, 2, 3].map(digest).into(), told);
    let judge = |ahead: &mut Ahead, n| ahead.judge(digest(n));
    let mut some = ahead(false);
    assert_eq!([1, 2, 3, 3].map(|n| judge(&mut some, n)), {
        use Verdict::{Next, Repeat};
        [Repeat, Repeat, Repeat, Next]
    });
    assert_eq!(judge(&mut ahead(false), 3), Verdict::Repeat);
    assert_eq!(judge(&mut ahead(false), 4), Verdict::Torn);
    assert_eq!(judge(&mut ahead(true), 4), Verdict::Next);
    assert_eq!(judge(&mut Ahead::default(), 4), Verdict::Next);
}

/// Every shift at which the lists agree, by trying them all.
fn naive(delivered: &[u64], held: &[u64]) -> Vec<isize> {
    let agrees = |shift: &isize| {
        let mut overlap = (0..held.len()).filter_map(|place| {
            let at = usize::try_from(shift + signed(place)).ok()?;
            Some((delivered.get(at)?, held[place]))
        });
        let mut met = false;
        overlap.all(|(a, b)| {
            met = true;
            *a == b
        }) && met
    };
    (1 - signed(held.len())..signed(delivered.len())).filter(agrees).collect()
}

proptest::proptest! {
    #[test]
    fn shifts_are_those_that_a_naive_search_finds(
        steps in proptest::collection::vec((proptest::bool::ANY, 0u64..4), 0..24),
    ) {
        let (mut delivered, mut held) = (Vec::new(), Vec::new());
        let mut overlap = Overlap::default();
        for (deliver, n) in steps {
            if deliver {
                delivered.push(n);
                overlap.deliver(digest(n));
            } else {
                held.push(n);
                overlap.hold(digest(n), item(n));
            }
            let mut shifts = overlap.shifts.clone();
            shifts.sort_unstable();
            proptest::prop_assert_eq!(shifts, naive(&delivered, &held));
        }
    }
}
