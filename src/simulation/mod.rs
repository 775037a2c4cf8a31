//! The whole client, from [`WsManager`](crate::manager::WsManager) down to the
//! [`Transport`](crate::transport::Transport), over a simulated network and in virtual time.
//!
//! A seed decides everything: a [`program`] of calls and faults, and what the [`network`] and the
//! [`server`] make of it. The [`oracle`] sits on the server's side, and knows what each reader must
//! get; [`invariants`] are looked at after each step. `scripts/simulate` runs many seeds, and one
//! again; [`shrink`] finds the least part of a program that breaks.
//!
//! # What must hold
//!
//! 1. A reader gets each message that its socket delivered, once and in order, from its joining on;
//!    what its ring let go of it gets as `Lagged`, exactly.
//! 2. It gets a gap for each break that it was there for, in its place, with its time and reason;
//!    and no other.
//! 3. The reason of the end comes once and last, and it is the one that the server's side knows.
//! 4. Where sockets are replaced while they work, nothing of that is seen, or one gap: never a loss or
//!    a repeat without one, see `oracle/moving.rs`.
//! 5. Whoever sends a message is told the truth about it, in its time, see `oracle/sending.rs`.
//! 6. Nothing is left when all have left, and what is wanted comes back when the faults are over.

mod client;
mod invariants;
mod network;
mod oracle;
mod program;
mod run;
mod runner;
mod senders;
mod server;
mod shrink;
mod wire;
mod world;

use std::env;

use crate::engine::defect::Defect;
use program::Program;
use run::run;

#[test]
fn a_seed_decides_everything() {
    for seed in 0..8 {
        let program = Program::of(seed);
        let [one, other] = [(); 2].map(|()| run(&program, None, true).story);
        assert!(one.len() > 10, "{one:?}");
        let first = one.iter().zip(&other).find(|(one, other)| one != other);
        assert!(first.is_none() && one.len() == other.len(), "seed {seed}: {first:?}");
    }
}

#[test]
fn the_first_seeds_hold() {
    let failures = runner::broken(0..25, None);
    failures.iter().for_each(|failure| runner::explain(failure, None));
    assert!(failures.is_empty());
}

/// All of them are for `scripts/simulate`.
#[test]
fn seeded_defects_are_caught() {
    for defect in [
        Defect::CalmForgetsClocks,
        Defect::EndIsKept,
        Defect::GapAtEveryHandover,
        Defect::GapIsNotSent,
        Defect::HandoverRepeats,
        Defect::LagOverwritesNotice,
        Defect::LeaseIsLeaked,
        Defect::OpeningResetsBackoff,
        Defect::ReasonIsLost,
        Defect::RepeatIsDropped,
        Defect::SentBeforeWritten,
        Defect::UnknownIsSentAgain,
    ] {
        assert!(runner::catches(defect, 0..40).is_some(), "{defect:?}");
    }
}

/// What `scripts/simulate` runs: many seeds, or one as a story.
#[test]
fn as_many_seeds_as_asked_for_hold() {
    let asked = |name: &str| env::var(name).ok();
    let defect = asked("DEFECT").map(|name| {
        let named = |defect: &&Defect| format!("{defect:?}") == name;
        *runner::DEFECTS.iter().find(named).expect("DEFECT is not one of those seeded")
    });
    if let Some(seed) = asked("SEED").map(|seed| seed.parse().expect("SEED is no number")) {
        let outcome = runner::replay(seed, asked("STEPS").as_deref(), defect);
        outcome.story.iter().for_each(|line| println!("{line}"));
        assert!(outcome.broken.is_none(), "seed {seed} is broken");
        return;
    }
    let Some(seeds) = asked("SEEDS").map(|seeds| seeds.parse().expect("SEEDS is no number")) else {
        return;
    };
    let failures = runner::broken(0..seeds, defect);
    failures.iter().take(5).for_each(|failure| runner::explain(failure, defect));
    let caught = runner::DEFECTS.iter().filter(|defect| {
        let caught = runner::catches(**defect, 0..seeds.max(500));
        match &caught {
            Some(failure) => {
                println!("{defect:?} is caught by seed {}: {}", failure.seed, failure.what)
            }
            None => println!("{defect:?} is NOT caught"),
        }
        caught.is_some()
    });
    let (broken, caught, all) = (failures.len(), caught.count(), runner::DEFECTS.len());
    println!("simulated {seeds} seeds, {broken} broken, {caught} of {all} seeded defects caught");
    assert!(broken == 0 && caught == all);
}
