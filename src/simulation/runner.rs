//! Many runs: seeds on all cores, the defects that must be caught, and the replay of a failure.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use super::program::Program;
use super::run::{Outcome, run};
use super::shrink::shrink;
use crate::engine::defect::Defect;

/// Every mistake that the simulation must notice.
pub(super) const DEFECTS: &[Defect] = &[
    Defect::CalmForgetsClocks,
    Defect::EndIsKept,
    Defect::GapAtEveryHandover,
    Defect::GapIsNotSent,
    Defect::HandoverRepeats,
    Defect::JitterIsShared,
    Defect::LagOverwritesNotice,
    Defect::LeaseIsLeaked,
    Defect::LeaveByName,
    Defect::OpenAfterShutdown,
    Defect::OpeningResetsBackoff,
    Defect::ReasonIsLost,
    Defect::RepeatIsDropped,
    Defect::SentBeforeWritten,
    Defect::SilenceIsTrusted,
    Defect::SocketOverlaps,
    Defect::StalledWriteStopsReading,
    Defect::SweeperDiesWithRuntime,
    Defect::UnknownIsSentAgain,
];

/// A seed that broke something.
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) what: String,
}

/// Runs these seeds on all cores. Returns those that broke, the lowest first.
pub(super) fn broken(seeds: std::ops::Range<u64>, defect: Option<Defect>) -> Vec<Failure> {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(what) = run(&Program::of(seed), defect, false).broken {
                        failures.lock().unwrap().push(Failure { seed, what });
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|failure| failure.seed);
    failures
}

/// The first of these seeds that catches `defect`.
pub(super) fn catches(defect: Defect, mut seeds: std::ops::Range<u64>) -> Option<Failure> {
    seeds.find_map(|seed| {
        let what = run(&Program::of(seed), Some(defect), false).broken?;
        Some(Failure { seed, what })
    })
}

/// Some steps of a seed's program, as `SEED=7 STEPS=0,4,9` gives them.
pub(super) fn replay(seed: u64, steps: Option<&str>, defect: Option<Defect>) -> Outcome {
    let mut program = Program::of(seed);
    if let Some(steps) = steps {
        let steps: Vec<_> = steps.split(',').filter_map(|step| step.parse().ok()).collect();
        program = program.only(&steps);
    }
    println!("seed {seed}: {program}");
    run(&program, defect, true)
}

/// Prints the least of a seed's program that still breaks, and how to run it again.
pub(super) fn explain(failure: &Failure, defect: Option<Defect>) {
    let Failure { seed, what } = failure;
    let program = Program::of(*seed);
    let breaks = |steps: &[usize]| run(&program.only(steps), defect, false).broken.is_some();
    let steps = shrink((0..program.steps.len()).collect(), 400, breaks);
    let outcome = run(&program.only(&steps), defect, false);
    let list: Vec<_> = steps.iter().map(ToString::to_string).collect();
    println!("seed {seed} is broken: {what}");
    println!("its least part, {}", program.only(&steps));
    println!("breaks so: {}", outcome.broken.unwrap_or_default());
    let defect = defect.map(|defect| format!("DEFECT={defect:?} ")).unwrap_or_default();
    println!("again: {defect}SEED={seed} STEPS={} scripts/simulate\n", list.join(","));
}
