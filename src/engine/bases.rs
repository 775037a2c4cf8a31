//! The bases of a manager's protocol: which of them works, and which is dialled next.
//!
//! Plain data and arithmetic under one short lock; a protocol of one base never takes it.
//!
//! # Invariants
//!
//! 1. The first base that is not passed over is dialled. So the primary is, whenever it may.
//! 2. One that failed is passed over for a while, which doubles as long as it fails, and which the server
//!    may lengthen. Then *one* dial tries it, and until that has told, for [`PROBE`] at most, the others go
//!    elsewhere.
//! 3. Where all are passed over, the one is dialled whose while is over first: there is always one.
//! 4. A base has worked, and its count of failures is forgotten, once a socket to it was stable. One that
//!    accepts and then closes is no base that works.

use std::time::Duration;

use tokio::time::Instant;

use super::sync::Mutex;

/// How long a base that failed is passed over, at first.
const SHORTEST: Duration = Duration::from_secs(30);
/// How long at most, unless the server says more.
const LONGEST: Duration = Duration::from_secs(300);
/// How long one dial may try a base that failed, before another does.
const PROBE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Bases {
    count: usize,
    table: Mutex<Box<[Base]>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Base {
    /// In a row.
    failures: u32,
    /// One dial tries it, for so long.
    tried_until: Option<Instant>,
    /// It is passed over until then.
    until: Option<Instant>,
}

impl Base {
    fn may_be_dialled(&self, now: Instant) -> bool {
        !self.is_passed_over(now) && self.tried_until.is_none_or(|until| until <= now)
    }

    fn is_passed_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }
}

impl Bases {
    /// So many of them, at least one.
    pub(crate) fn new(count: usize) -> Self {
        let count = count.clamp(1, usize::from(u16::MAX));
        Self { count, table: Mutex::new(vec![Base::default(); count].into_boxed_slice()) }
    }

    pub(crate) fn are_several(&self) -> bool {
        self.count > 1
    }

    /// Does something with a base, where there are several.
    fn with<R: Default>(&self, base: u16, change: impl FnOnce(&mut Base) -> R) -> R {
        if !self.are_several() {
            return R::default();
        }
        self.table.lock().get_mut(usize::from(base)).map(change).unwrap_or_default()
    }

    /// The base for the next dial.
    pub(crate) fn choose(&self, now: Instant) -> u16 {
        if !self.are_several() {
            return 0;
        }
        let mut bases = self.table.lock();
        let open = bases.iter().position(|base| base.may_be_dialled(now));
        let soonest = || {
            let places = 0..bases.len();
            places.min_by_key(|place| bases[*place].until)
        };
        let chosen = open.or_else(soonest).unwrap_or(0);
        let base = &mut bases[chosen];
        if base.failures > 0 {
            base.tried_until = Some(now + PROBE);
        }
        u16::try_from(chosen).unwrap_or(0)
    }

    /// A dial to `base` has failed, or what it brought was of no use. It is passed over for `at_least`.
    pub(crate) fn failed(&self, base: u16, at_least: Duration, now: Instant) {
        self.with(base, |base| {
            let doubled = SHORTEST.saturating_mul(1 << base.failures.min(8));
            base.failures = base.failures.saturating_add(1);
            base.tried_until = None;
            base.until = Some(now + doubled.min(LONGEST).max(at_least));
        });
    }

    /// A socket to `base` is open: the others may come.
    pub(crate) fn opened(&self, base: u16) {
        self.with(base, |base| (base.tried_until, base.until) = (None, None));
    }

    /// A socket to `base` was stable.
    pub(crate) fn works(&self, base: u16) {
        self.with(base, |base| *base = Base::default());
    }

    /// Whether a base has failed since it was chosen: who waits for its turn there waits for nothing.
    pub(crate) fn is_passed_over(&self, base: u16, now: Instant) -> bool {
        self.with(base, |base| base.is_passed_over(now))
    }

    /// Whether there is another that may be dialled now.
    pub(crate) fn has_another(&self, than: u16, now: Instant) -> bool {
        let bases = self.table.lock();
        let mut others = bases.iter().enumerate().filter(|(place, _)| *place != usize::from(than));
        others.any(|(_, base)| base.may_be_dialled(now))
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
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
        bases.works(0);
        assert_eq!([bases.choose(now), bases.choose(now)], [0, 0]);
        bases.failed(0, Duration::ZERO, now);
        assert_eq!(bases.choose(now + 30 * SECOND), 0, "it begins anew");
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
            self.works(base);
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
}
