//! How many requests of a batch are in flight at once, by what the server makes of them.
//!
//! # How it decides
//!
//! What is measured at a group size is how long replies took, and what share of the requests was
//! answered well. By Little's law that is a goodput, `size · share / latency`, and two sizes are compared
//! by it: so neither a server that is merely slow nor a request that would fail at any pace slows a batch
//! down, but only more requests that bring less.
//!
//! The size that is known best is *home*. From there, more is tried: a quarter more, and on as long as
//! more brings more (additive increase). If it does not, less is tried: three fifths, and on as long as
//! less brings more (multiplicative decrease). If neither is better, it stays home for a while, which is
//! twice as long each time that nothing came of it. The very first thing that is tried is less.
//!
//! # Invariants
//!
//! 1. The size stays within its bounds.
//! 2. A size is measured by requests that were begun as the last of a full group, on connections that
//!    were open, with more to come behind them: neither what is left of another size, nor a handshake, nor
//!    the beginning or the tail of a batch is taken for it.
//! 3. A size is better only if the difference exceeds a twentieth, and what chance explains.
//! 4. Less is not tried in a batch that is too short to gain by it.

use std::collections::BTreeMap;
use std::time::Duration;

/// Replies at least that are taken at once for a size.
const LEAST: u32 = 8;
/// What decides between two sizes at least.
const MARGIN: f64 = 0.05;
/// Standard errors that chance explains where something else was tried, and where nothing was.
const CHANCE: f64 = 2.0;
const CHANCE_AT_HOME: f64 = 4.0;
/// How long it stays home: at first, and at last.
const PATIENCE: (u32, u32) = (8, 32);
/// Replies that are remembered of a size: of more, old ones count half.
const MEMORY: u32 = 256;

#[derive(Debug)]
pub(super) struct Pace {
    bounds: (usize, usize),
    epoch: u64,
    home: usize,
    measured: Sum,
    patience: u32,
    /// What is known of each size that was tried.
    known: BTreeMap<usize, Sum>,
    size: usize,
    step: Step,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Less is tried.
    Down,
    /// It stays as it is, for so many times.
    Home(u32),
    /// More is tried.
    Up,
}

/// What is measured at a size.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: f64,
    good: f64,
    seconds: f64,
    squares: f64,
}

impl Pace {
    /// Begins with groups of `size`, and stays within `bounds`.
    pub(super) fn new(size: usize, bounds: (usize, usize)) -> Self {
        let size = size.clamp(bounds.0, bounds.1);
        Self {
            bounds,
            epoch: 0,
            home: size,
            measured: Sum::default(),
            patience: PATIENCE.0,
            known: BTreeMap::new(),
            size,
            step: Step::Home(0),
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// What a request that begins now is to be recorded with.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A request that began in `epoch` has ended; `left` of its batch have not begun yet.
    pub(super) fn record(&mut self, epoch: u64, latency: Duration, is_good: bool, left: usize) {
        if epoch != self.epoch || left == 0 {
            return;
        }
        self.measured.add(latency, is_good);
        let enough = u32::try_from(self.size / 2).unwrap_or(u32::MAX).max(LEAST);
        if self.measured.count >= f64::from(enough) {
            self.judge(left);
        }
    }

    fn judge(&mut self, left: usize) {
        let measured = std::mem::take(&mut self.measured);
        self.epoch += 1;
        let may_try_less = left >= 4 * self.size;
        if matches!(self.step, Step::Home(_)) {
            self.look_around(&measured);
        }
        let is_first = self.known.is_empty();
        self.known.entry(self.size).or_default().merge(measured);
        if self.step != Step::Up && self.step != Step::Down && self.was_lured() {
            return;
        }
        match self.step {
            // What a server cannot bear is to be found out soon.
            Step::Home(0) if is_first => self.try_less(may_try_less),
            Step::Home(0) => self.try_more(may_try_less),
            Step::Home(rest) => self.step = Step::Home(rest - 1),
            Step::Up if self.is_better() => {
                self.arrive();
                self.try_more(may_try_less);
            }
            Step::Down if self.is_better() => {
                self.arrive();
                self.try_less(may_try_less);
            }
            Step::Up => self.try_less(may_try_less),
            Step::Down if self.known.len() == 2 => self.try_more(false), // It was the first thing.
            Step::Down => self.go_home(),
        }
    }

    /// What was known is of another time, if home is not what it was.
    fn look_around(&mut self, measured: &Sum) {
        let Some(known) = self.known.get(&self.home) else { return };
        let change = measured.goodput(self.home) / known.goodput(self.home) - 1.0;
        if change.abs() > MARGIN.max(CHANCE_AT_HOME * measured.error(known)) {
            self.known.clear();
            (self.patience, self.step) = (PATIENCE.0, Step::Home(0));
        }
    }

    /// Home turns out to be worse than what was left for it: back there.
    fn was_lured(&mut self) -> bool {
        let Some(home) = self.known.get(&self.home) else { return false };
        let better = |(size, known): &(&usize, &Sum)| known.beats(**size, home, self.home);
        let Some((better, _)) = self.known.iter().rev().find(better) else { return false };
        self.home = *better;
        self.go_home();
        true
    }

    fn is_better(&self) -> bool {
        let (tried, home) = (self.known.get(&self.size), self.known.get(&self.home));
        tried.zip(home).is_some_and(|(tried, home)| tried.beats(self.size, home, self.home))
    }

    fn arrive(&mut self) {
        self.home = self.size;
        self.patience = PATIENCE.0;
    }

    fn try_more(&mut self, may_try_less: bool) {
        let more = (self.home + (self.home / 4).max(1)).min(self.bounds.1);
        if more == self.home {
            return self.try_less(may_try_less);
        }
        (self.size, self.step) = (more, Step::Up);
    }

    fn try_less(&mut self, may_try_less: bool) {
        let less = (self.home * 3 / 5).max(self.bounds.0);
        if less == self.home || !may_try_less {
            return self.go_home();
        }
        (self.size, self.step) = (less, Step::Down);
    }

    fn go_home(&mut self) {
        (self.size, self.step) = (self.home, Step::Home(self.patience));
        self.patience = (self.patience * 2).min(PATIENCE.1);
    }
}

impl Sum {
    fn add(&mut self, latency: Duration, is_good: bool) {
        let seconds = latency.as_secs_f64().max(1e-9);
        self.merge(Self {
            count: 1.0,
            good: f64::from(u8::from(is_good)),
            seconds,
            squares: seconds * seconds,
        });
    }

    fn merge(&mut self, more: Self) {
        let weight = if self.count > f64::from(MEMORY) { 0.5 } else { 1.0 };
        self.count = self.count * weight + more.count;
        self.good = self.good * weight + more.good;
        self.seconds = self.seconds * weight + more.seconds;
        self.squares = self.squares * weight + more.squares;
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
    fn goodput(&self, size: usize) -> f64 {
        size as f64 * self.good / self.seconds
    }

    /// Relative variance of one reply's time.
    fn spread(&self) -> f64 {
        let mean = self.seconds / self.count;
        (self.squares / self.count - mean * mean).max(0.0) / (mean * mean)
    }

    /// What chance makes of the difference between the two, relative to either: the standard error of a
    /// spread that both are taken for, since few replies seem to spread less than they do.
    fn error(&self, other: &Self) -> f64 {
        let count = self.count + other.count;
        let spread = (self.spread() * self.count + other.spread() * other.count) / count;
        // What was seen of few is not taken for certain (Laplace's rule of succession).
        let share = (self.good + other.good + 1.0) / (count + 2.0);
        let variance = spread + (1.0 - share) / share;
        (variance * (1.0 / self.count + 1.0 / other.count)).sqrt()
    }

    /// Whether more comes of `size` than of the other one, by more than chance explains.
    fn beats(&self, size: usize, other: &Self, other_size: usize) -> bool {
        let margin = MARGIN.max(CHANCE * self.error(other));
        self.goodput(size) > other.goodput(other_size) * (1.0 + margin)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server makes of `size` requests at once: how long each takes, and the share answered.
    type Server = fn(usize) -> (f64, f64);

    /// The mean goodput, over `requests` of one batch, relative to that of groups of 18.
    fn compared(server: Server, requests: usize, bounds: (usize, usize), noise: f64) -> f64 {
        let mut pace = Pace::new(18, bounds);
        let (mut left, mut seconds, mut good) = (requests, 0.0, 0.0);
        let mut chance = 1_u64;
        let mut random = || {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (chance >> 11) as f64 / (1_u64 << 53) as f64
        };
        while left > 0 {
            let (size, epoch) = (pace.size().min(left), pace.epoch());
            let (latency, share) = server(size);
            left -= size;
            seconds += latency;
            for _ in 0..size {
                let is_good = random() < share;
                good += f64::from(u8::from(is_good));
                let noisy = latency * (1.0 + noise * (2.0 * random() - 1.0));
                pace.record(epoch, Duration::from_secs_f64(noisy), is_good, left);
            }
        }
        let (latency, share) = server(18);
        (good / seconds) / (18.0 * share / latency)
    }

    fn flat(_: usize) -> (f64, f64) {
        (0.2, 1.0)
    }

    /// It answers one after the other: more at once brings nothing, and costs nothing.
    fn queue(size: usize) -> (f64, f64) {
        (0.02 * size as f64, 1.0)
    }

    fn rising(size: usize) -> (f64, f64) {
        let load = size as f64 / 6.0;
        (0.1 * (1.0 + load * load), 1.0 - (load / 10.0).min(0.9))
    }

    #[test]
    fn where_more_brings_less_it_goes_down_and_gains() {
        for noise in [0.0, 0.2] {
            let gain = compared(rising, 1000, (1, 36), noise);
            assert!(gain > 1.3, "{gain:.2} at noise {noise}");
        }
    }

    #[test]
    fn where_more_costs_nothing_it_loses_nothing() {
        for (server, name) in [(flat as Server, "flat"), (queue, "queue"), (refusing, "refusing")] {
            for bounds in [(1, 18), (1, 36), (1, 100)] {
                for noise in [0.0, 0.2, 0.9] {
                    for requests in [36, 100, 200, 1000, 10_000] {
                        let gain = compared(server, requests, bounds, noise);
                        assert!(gain > 0.9, "{gain:.3}: {name}, {bounds:?}, {noise}, {requests}");
                    }
                }
            }
        }
    }

    /// A third of the requests fails whatever the pace: they are wrong.
    fn refusing(_: usize) -> (f64, f64) {
        (0.2, 0.66)
    }

    #[test]
    fn where_more_brings_more_it_goes_up() {
        assert!(compared(flat, 1000, (1, 36), 0.0) > 1.5);
    }

    #[test]
    fn what_was_begun_at_another_size_and_the_tail_are_not_measured() {
        let mut pace = Pace::new(18, (1, 36));
        for _ in 0..100 {
            pace.record(pace.epoch() + 1, Duration::from_secs(1), true, 100);
            pace.record(pace.epoch(), Duration::from_secs(1), true, 0);
        }
        assert_eq!((pace.size(), pace.epoch()), (18, 0));
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(
            least in 1_usize..20,
            more in 0_usize..40,
            size in 0_usize..100,
            ends in prop::collection::vec((0_u64..5000, any::<bool>(), 0_usize..300), 0..2000),
        ) {
            let bounds = (least, least + more);
            let mut pace = Pace::new(size, bounds);
            for (millis, is_good, left) in ends {
                pace.record(pace.epoch(), Duration::from_millis(millis), is_good, left);
                prop_assert!((bounds.0..=bounds.1).contains(&pace.size()));
            }
        }
    }
}
