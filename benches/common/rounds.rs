//! Rounds in which both sides of a comparison take turns, and how their figures are told.
//!
//! A line of a figure is `ratio NAME VALUE`; lines that begin with `#` are for people, and give the
//! extremes. With `ours` or `bare` among the arguments only that side runs, for a profiler.

use std::env;
use std::time::Duration;

use tokio::time::Instant;

use super::clock::Cost;
use super::stats::{median, spread};

/// Rounds of one comparison: at least `MIN`, then until `MAX` or the time is up.
const MIN_ROUNDS: usize = 5;
const MAX_ROUNDS: usize = 11;
const TIME: Duration = Duration::from_secs(6);

/// Compares the CPU time of two sides over `units` units of work each.
pub(crate) fn compare(
    name: &str,
    units: u64,
    ours: impl FnMut() -> Cost,
    bare: impl FnMut() -> Cost,
) {
    let rounds = take_turns(&[name], ours, bare);
    if rounds.is_empty() {
        return;
    }
    let busy = |side: fn(&(Cost, Cost)) -> Cost| {
        median(&rounds.iter().map(|round| side(round).busy()).collect::<Vec<_>>())
    };
    println!("# {name}: busy for {:.0} % and {:.0} %", busy(|r| r.0), busy(|r| r.1));
    let figures: Vec<_> =
        rounds.iter().map(|(ours, bare)| (ours.cpu_ns(units), bare.cpu_ns(units))).collect();
    tell(name, "ns", &figures);
}

/// Runs both sides in turns, if one of `names` is wanted: what each round yielded, ours first.
pub(crate) fn take_turns<T>(
    names: &[&str],
    mut ours: impl FnMut() -> T,
    mut bare: impl FnMut() -> T,
) -> Vec<(T, T)> {
    let mut rounds = Vec::new();
    if !names.iter().any(|name| is_wanted(name)) {
        return rounds;
    }
    let only = |side: &str| env::args().any(|arg| arg == side);
    if only("ours") || only("bare") {
        for _ in 0..MIN_ROUNDS {
            if only("ours") {
                ours()
            } else {
                bare()
            };
        }
        return rounds;
    }
    // The first of each pays for cold caches, and for the pages that later ones find mapped.
    ours();
    bare();
    let started = Instant::now();
    while rounds.len() < MIN_ROUNDS || (rounds.len() < MAX_ROUNDS && started.elapsed() < TIME) {
        // Each side goes first every other round.
        rounds.push(if rounds.len() % 2 == 0 {
            let ours = ours();
            (ours, bare())
        } else {
            let bare = bare();
            (ours(), bare)
        });
    }
    rounds
}

/// Prints ours over the other, from rounds of both.
pub(crate) fn tell(name: &str, unit: &str, rounds: &[(f64, f64)]) {
    if rounds.is_empty() || !is_wanted(name) {
        return;
    }
    let (ours, bare): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
    let ratios: Vec<_> = rounds.iter().map(|(ours, bare)| ours / bare).collect();
    println!("# {name}: ours {} {unit}, bare {} {unit}", spread(&ours), spread(&bare));
    println!("# {name}: {} in {} rounds", spread(&ratios), rounds.len());
    println!("ratio {name} {:.3}", median(&ratios));
}

/// Prints a figure that is compared with nothing.
pub(crate) fn tell_absolute(name: &str, unit: &str, rounds: &[f64]) {
    if rounds.is_empty() || !is_wanted(name) {
        return;
    }
    println!("# {name}: {} {unit} in {} rounds", spread(rounds), rounds.len());
    println!("ratio {name} {:.3}", median(rounds));
}

/// The figures of as many rounds as a comparison has at least; the first does not count.
pub(crate) fn repeat(name: &str, mut measure: impl FnMut() -> f64) -> Vec<f64> {
    if !is_wanted(name) {
        return Vec::new();
    }
    (0..=MIN_ROUNDS).map(|_| measure()).skip(1).collect()
}

/// Whether the arguments name this comparison, or none.
pub(crate) fn is_wanted(name: &str) -> bool {
    let mut names = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-') && !matches!(&**arg, "ours" | "bare"))
        .peekable();
    names.peek().is_none() || names.any(|wanted| wanted == name)
}
