//! Whether those who are away go home as they should, and rules that have them do it wrong.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// Sockets of the model.
const SOCKETS: usize = 20;
/// A socket is stable after so many seconds.
const STABLE: u32 = 10;
/// Looks are spread over so many seconds.
const SPREAD: u32 = 30;

#[test]
fn one_goes_home_first_and_the_others_when_it_is_known_to_work() {
    let (bases, start) = (Bases::new(3), Instant::now());
    let at = |seconds: u32| start + seconds * SECOND;
    bases.failed(0, Duration::ZERO, at(0));
    bases.failed(1, Duration::ZERO, at(5));
    assert_eq!(bases.homeward(0, at(0)), Err(None), "it is at home");
    assert_eq!(bases.homeward(2, at(1)), Err(Some(at(30))), "when the first may be had again");
    assert_eq!(bases.homeward(2, at(30)), Ok(0));
    assert_eq!(
        bases.homeward(2, at(31)),
        Err(Some(at(35))),
        "one at a time, and the next base is due"
    );
    assert_eq!(bases.homeward(1, at(31)), Err(Some(at(60))));
    bases.opened(0);
    assert_eq!(bases.homeward(1, at(32)), Err(Some(at(60))), "open is not stable");
    bases.works(0, at(42));
    assert_eq!([0; 3].map(|_| bases.homeward(2, at(42))), [Ok(0); 3]);
    assert_eq!(Bases::new(1).homeward(0, start), Err(None));
}

#[test]
fn what_is_claimed_and_not_dialled_is_for_the_next_one() {
    let (bases, now) = (Bases::new(2), Instant::now());
    bases.failed(0, Duration::ZERO, now);
    let now = now + SHORTEST;
    assert_eq!((bases.homeward(1, now), bases.choose(now)), (Ok(0), 1));
    bases.withdraw(0);
    assert_eq!(bases.homeward(1, now), Ok(0));
    assert_eq!(bases.homeward(1, now + PROBE), Ok(0), "that one never told");
}

#[test]
fn a_base_that_relapses_is_come_home_to_later_each_time_and_is_forgiven() {
    let (bases, mut now) = (Bases::new(2), Instant::now());
    let mut relapse = |lasted: u32| {
        bases.failed(0, Duration::ZERO, now);
        let away = (30..1000).find(|s| bases.homeward(1, now + *s * SECOND).is_ok()).unwrap();
        assert!(!bases.is_passed_over(0, now + SHORTEST), "who has no socket goes there");
        now += away * SECOND;
        bases.works(0, now);
        now += lasted * SECOND;
        away
    };
    let away = [15, 15, 15, 15, 15, 300, 15].map(&mut relapse);
    assert_eq!(away, [30, 60, 120, 240, 330, 330, 30]);
}

/// When who is away may go home.
trait Homing {
    fn homeward(&self, now: Instant) -> Result<u16, Option<Instant>>;
    fn failed(&self, now: Instant);
    fn opened(&self);
    fn works(&self, now: Instant);
}

impl Homing for Bases {
    fn homeward(&self, now: Instant) -> Result<u16, Option<Instant>> {
        Self::homeward(self, 1, now)
    }

    fn failed(&self, now: Instant) {
        Self::failed(self, 0, Duration::ZERO, now);
    }

    fn opened(&self) {
        Self::opened(self, 0);
    }

    fn works(&self, now: Instant) {
        Self::works(self, 0, now);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Socket {
    /// Since when it is at home.
    home_since: Option<u32>,
    look_at: u32,
    moves: u32,
}

/// Seconds of the model, each with the primary up or down. Returns how often each socket went home.
fn play(rules: &dyn Homing, up: &[bool]) -> Result<Vec<Socket>, TestCaseError> {
    let start = Instant::now();
    let mut sockets: Vec<_> =
        (0..SOCKETS).map(|n| Socket { look_at: jitter(n, 0), ..Socket::default() }).collect();
    rules.failed(start);
    // When the primary failed last, when it last became known to work, and who was first to go since.
    let (mut failed_at, mut proved, mut first): (u32, bool, Option<u32>) = (0, false, None);
    for (second, up) in (0..).zip(up) {
        let now = start + second * SECOND;
        let mut lost = false;
        for (n, socket) in sockets.iter_mut().enumerate() {
            match socket.home_since {
                Some(since) if *up && second == since + STABLE => {
                    rules.works(now);
                    (proved, first) = (true, None);
                }
                Some(_) if *up => {}
                Some(_) => {
                    (socket.home_since, lost) = (None, true);
                    socket.look_at = second + jitter(n, second);
                }
                None if socket.look_at > second => {}
                None => match rules.homeward(now) {
                    Ok(_) => {
                        prop_assert!(
                            proved || second >= failed_at + 30,
                            "too soon after a failure"
                        );
                        let alone = proved || first.is_none_or(|first| second >= first + 30);
                        prop_assert!(alone, "more than one goes where nobody knows");
                        socket.moves += 1;
                        first = first.filter(|first| second < first + 30).or(Some(second));
                        (socket.home_since, lost) =
                            if *up { (Some(second), lost) } else { (None, true) };
                        socket.look_at = second + jitter(n, second);
                        if *up {
                            rules.opened()
                        }
                    }
                    Err(at) => {
                        let at = at.map_or(u32::MAX / 2, |at| (at - start).as_secs() as u32);
                        socket.look_at = at.max(second) + jitter(n, second);
                    }
                },
            }
        }
        if lost {
            rules.failed(now);
            (failed_at, proved, first) = (second, false, None);
        }
    }
    Ok(sockets)
}

/// From 1 to [`SPREAD`], and different for each at each time.
fn jitter(socket: usize, second: u32) -> u32 {
    1 + (u32::try_from(socket).unwrap() * 7 + second * 13) % SPREAD
}

/// Whatever the primary does, what is known against it is heeded; and once it stays, all go home.
fn check(rules: &dyn Homing, up: &[bool]) -> Result<(), TestCaseError> {
    let stays = [up, &[true; 1200]].concat();
    let sockets = play(rules, &stays)?;
    let away = sockets.iter().filter(|socket| socket.home_since.is_none()).count();
    prop_assert_eq!(away, 0, "the primary is up for twenty minutes, and some stay away");
    // Twice at most in five minutes, but for the first few.
    let most = 8 + 2 * u32::try_from(stays.len()).unwrap() / 300;
    let moves = sockets.iter().map(|socket| socket.moves).max();
    prop_assert!(moves <= Some(most), "{moves:?} times home");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_primary_does_one_goes_first_and_all_are_home_in_the_end(
        phases in prop::collection::vec((any::<bool>(), 1..200_usize), 0..40),
    ) {
        let up: Vec<_> = phases.into_iter().flat_map(|(up, seconds)| vec![up; seconds]).collect();
        check(&Bases::new(2), &up)?;
    }
}

/// Up for 45 s, which is stable, and down for 15, again and again.
fn flaps() -> Vec<bool> {
    (0..7200).map(|second| second % 60 < 45).collect()
}

/// A rule that is broken in one way.
struct Broken {
    bases: Bases,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    AllAtOnce,
    EachFlapIsTheFirst,
    Never,
    TooSoon,
}

impl Homing for Broken {
    fn homeward(&self, now: Instant) -> Result<u16, Option<Instant>> {
        match self.how {
            How::Never => Err(None),
            How::TooSoon => Ok(0),
            How::AllAtOnce if self.bases.is_passed_over(0, now) => {
                Homing::homeward(&self.bases, now)
            }
            How::AllAtOnce => Ok(0),
            How::EachFlapIsTheFirst => {
                self.bases.with(0, |base| (base.relapses, base.home_from) = (0, base.until));
                Homing::homeward(&self.bases, now)
            }
        }
    }

    fn failed(&self, now: Instant) {
        Homing::failed(&self.bases, now);
    }

    fn opened(&self) {
        Homing::opened(&self.bases);
    }

    fn works(&self, now: Instant) {
        Homing::works(&self.bases, now);
    }
}

#[test]
fn rules_that_have_them_go_home_wrong_are_noticed() {
    let up = flaps();
    assert!(check(&Bases::new(2), &up).is_ok());
    for how in [How::AllAtOnce, How::EachFlapIsTheFirst, How::Never, How::TooSoon] {
        assert!(check(&Broken { bases: Bases::new(2), how }, &up).is_err(), "{how:?}");
    }
}
