//! Rounds in which any number of sides take turns: ours, and others that are compared with it.

use std::time::Duration;

use tokio::time::Instant;

use crate::common::clock::Cost;
use crate::common::rounds::{is_wanted, tell};
use crate::common::stats::median;

/// Rounds of one comparison: at least `MIN`, then until `MAX` or the time is up.
const MIN_ROUNDS: usize = 5;
const MAX_ROUNDS: usize = 21;
const TIME: Duration = Duration::from_secs(20);

/// One way to read the feed.
pub(crate) struct Side<'a> {
    /// The name of its comparison with ours.
    pub(crate) name: &'static str,
    /// Reads the whole feed once.
    pub(crate) run: Box<dyn Fn() -> Cost + 'a>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(name: &'static str, run: impl Fn() -> Cost + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// Compares the CPU time of `others` with `ours` over `units` units of work each. With `fastest`, ours
/// is also compared with the one that takes the least, under that name.
pub(crate) fn compare(
    fastest: Option<&'static str>,
    units: u64,
    ours: impl Fn() -> Cost,
    others: &[Side<'_>],
) {
    let names = || others.iter().map(|side| side.name);
    if !names().chain(fastest).any(is_wanted) {
        return;
    }
    let rounds = take_turns(&ours, others);
    let of = |side: usize| -> Vec<f64> { rounds.iter().map(|r| r[side].cpu_ns(units)).collect() };
    let busy =
        |side: usize| median(&rounds.iter().map(|round| round[side].busy()).collect::<Vec<_>>());
    let against = |side: usize| of(0).into_iter().zip(of(side)).collect::<Vec<_>>();
    for (side, name) in (1..).zip(names()) {
        if is_wanted(name) {
            println!("# {name}: busy for {:.0} % and {:.0} %", busy(0), busy(side));
        }
        tell(name, "ns", &against(side));
    }
    if let Some(name) = fastest {
        let least = (1..=others.len()).min_by(|a, b| median(&of(*a)).total_cmp(&median(&of(*b))));
        let least = least.expect("there are others");
        println!("# {name}: the fastest is {}", others[least - 1].name);
        tell(name, "ns", &against(least));
    }
}

/// What each side took in each round, ours first. Another side begins each time.
fn take_turns(ours: &dyn Fn() -> Cost, others: &[Side<'_>]) -> Vec<Vec<Cost>> {
    let sides: Vec<&dyn Fn() -> Cost> =
        std::iter::once(ours).chain(others.iter().map(|side| &*side.run)).collect();
    // The first of each pays for cold caches, and for the pages that later ones find mapped.
    for side in &sides {
        side();
    }
    let started = Instant::now();
    let mut rounds = Vec::new();
    while rounds.len() < MIN_ROUNDS || (rounds.len() < MAX_ROUNDS && started.elapsed() < TIME) {
        let mut round = vec![None; sides.len()];
        for turn in 0..sides.len() {
            let side = (rounds.len() + turn) % sides.len();
            round[side] = Some(sides[side]());
        }
        rounds.push(round.into_iter().flatten().collect());
    }
    rounds
}
