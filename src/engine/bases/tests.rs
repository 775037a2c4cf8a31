//! What a chooser of bases has to do, and choosers that do it wrong.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_base_that_failed_is_passed_over_for_longer_and_longer_and_then_tried_by_one() {
    let (bases, mut now) = (Bases::new(2), Instant::now());
    for seconds in [30, 60, 120, 240, 300, 300] {
        assert_eq!(bases.choose(now), 0);
        bases.failed(0, Duration::ZERO, now);
        assert!(bases.has_another(0, now));
        now += seconds * SECOND;
        assert_eq!(bases.choose(now - SECOND), 1);
    }
    assert_eq!(bases.choose(now), 0, "one tries it");
    assert_eq!(bases.choose(now), 1, "and the others do not");
    assert_eq!(bases.choose(now + PROBE), 0, "unless that one never tells");
    bases.opened(0);
    assert_eq!([bases.choose(now), bases.choose(now)], [0, 1], "not known to be stable");
    bases.works(0, now);
    assert_eq!([bases.choose(now), bases.choose(now)], [0, 0]);
    bases.failed(0, Duration::ZERO, now);
    assert_eq!(bases.choose(now + 30 * SECOND), 0, "it begins anew");
}

#[test]
fn many_that_fail_together_are_one_failure() {
    let (bases, now) = (Bases::new(2), Instant::now());
    (0..1000).for_each(|_| bases.failed(0, Duration::ZERO, now));
    assert!(bases.is_passed_over(0, now + 29 * SECOND) && !bases.is_passed_over(0, now + SHORTEST));
    bases.failed(0, 50 * SECOND, now + SECOND);
    assert!(bases.is_passed_over(0, now + 50 * SECOND), "what the server asks for counts");
}

#[test]
fn who_tries_a_base_is_told_when_it_fails_and_not_that_it_is_tried() {
    let (bases, now) = (Bases::new(2), Instant::now());
    bases.failed(0, Duration::ZERO, now);
    assert!(bases.is_passed_over(0, now) && !bases.is_passed_over(1, now));
    let now = now + SHORTEST;
    assert_eq!(bases.choose(now), 0);
    assert!(!bases.is_passed_over(0, now));
    bases.failed(0, Duration::ZERO, now);
    assert!(bases.is_passed_over(0, now));
}

#[test]
fn where_all_have_failed_the_one_is_dialled_that_is_soonest_over() {
    let (bases, now) = (Bases::new(2), Instant::now());
    bases.failed(0, 600 * SECOND, now);
    assert!(bases.has_another(0, now));
    bases.failed(1, Duration::ZERO, now);
    assert!(!bases.has_another(0, now) && !bases.has_another(1, now));
    assert_eq!(bases.choose(now), 1);
    let alone = Bases::new(0);
    alone.failed(0, SECOND, now);
    assert_eq!([alone.choose(now), alone.choose(now)], [0, 0]);
    assert!(!alone.has_another(0, now));
    alone.failed(7, SECOND, now);
}

/// Something that chooses bases.
trait Chooser {
    fn choose(&self, now: Instant) -> u16;
    fn failed(&self, base: u16, now: Instant);
    fn stable(&self, base: u16);
}

impl Chooser for Bases {
    fn choose(&self, now: Instant) -> u16 {
        Self::choose(self, now)
    }

    fn failed(&self, base: u16, now: Instant) {
        Self::failed(self, base, Duration::ZERO, now);
    }

    fn stable(&self, base: u16) {
        self.opened(base);
        self.works(base, Instant::now());
    }
}

/// Dials each ten seconds, to three bases of which `up` work at each dial. Every dial goes to a base
/// that works if it did at the dial before, a base is not hammered, and the primary is come back to.
fn check(chooser: &dyn Chooser, up: &[[bool; 3]]) -> Result<(), TestCaseError> {
    let (mut now, mut failed_at, mut back) = (Instant::now(), [None; 3], 0);
    for up in up {
        let base = chooser.choose(now);
        let at = usize::from(base);
        let since: Option<Instant> = failed_at[at];
        let others = failed_at.iter().any(Option::is_none);
        let is_hammered = since.is_some_and(|since| now < since + SHORTEST) && others;
        prop_assert!(!is_hammered, "{base} is dialled too soon");
        back = if up[0] && base != 0 { back + 1 } else { 0 };
        prop_assert!(back <= 31, "the primary works, and is not come back to");
        match up[at] {
            true => {
                chooser.stable(base);
                failed_at[at] = None;
            }
            false => {
                chooser.failed(base, now);
                failed_at[at] = Some(now);
            }
        }
        now += 10 * SECOND;
    }
    Ok(())
}

/// Stays where it works.
struct NeverBack(Mutex<u16>);

impl Chooser for NeverBack {
    fn choose(&self, _: Instant) -> u16 {
        *self.0.lock()
    }

    fn failed(&self, base: u16, _: Instant) {
        *self.0.lock() = (base + 1) % 3;
    }

    fn stable(&self, _: u16) {}
}

/// Knows of no failure.
struct Hammer;

impl Chooser for Hammer {
    fn choose(&self, _: Instant) -> u16 {
        0
    }

    fn failed(&self, _: u16, _: Instant) {}

    fn stable(&self, _: u16) {}
}

#[test]
fn a_chooser_that_does_wrong_is_noticed() {
    let up: Vec<_> = (0..60).map(|n| [n > 3, true, true]).collect();
    assert!(check(&Bases::new(3), &up).is_ok());
    assert!(check(&NeverBack(Mutex::new(0)), &up).is_err());
    assert!(check(&Hammer, &up).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_primary_is_come_back_to_and_none_is_hammered(up in prop::collection::vec(any::<[bool; 3]>(), 0..200)) {
        check(&Bases::new(3), &up)?;
    }
}
