//! A thousand streams for minutes, while names come and go and the exchange misbehaves; and then
//! nothing may be left, lost or told twice.
//!
//! `scripts/soak` runs it. Without `SOAK_SECONDS` it does nothing, so that `cargo test` passes by.
//! First the checks themselves are checked: a small run must pass, and each with a defect must not.

mod faults;
mod footprint;
mod reader;
mod session;
mod twins;
mod venue;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use tokio::runtime::{Builder, Runtime};

use self::footprint::Drift;
use self::session::{Outcome, Plan};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

fn main() -> ExitCode {
    let Ok(seconds) = env::var("SOAK_SECONDS") else {
        println!("nothing is soaked: scripts/soak does");
        return ExitCode::SUCCESS;
    };
    let Ok(seconds @ 1..=86_400) = seconds.parse() else {
        eprintln!("SOAK_SECONDS is to be a number from 1 to 86400, not {seconds}");
        return ExitCode::from(2);
    };
    let client = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if !twins::are_refused(&client) {
        return ExitCode::FAILURE;
    }
    if soak(&client, seconds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The real run, against what a first one has left that closed all it opened.
fn soak(client: &Runtime, seconds: u64) -> bool {
    let before = session::run(client, &Plan::warm_up());
    println!("# warmed up, with {} sockets at most: {:?}", before.most_sockets, before.counts);
    let after = session::run(client, &Plan::real(Duration::from_secs(seconds)));
    report(&before, &after);
    let faults = session::judge(&before, &after);
    for fault in &faults {
        println!("# FAULT: {fault:?}");
    }
    let (counts, drift) = (after.counts, Drift::between(&before, &after));
    println!(
        "soak: {seconds} s, {} messages, {} joins, {} faults, fd drift {}, task drift {}, heap drift \
         {}, series drift {}, {} lost, {} twice",
        counts.messages,
        counts.joins,
        counts.faults,
        drift.descriptors,
        drift.tasks,
        drift.heap,
        drift.series,
        counts.lost,
        counts.twice,
    );
    faults.is_empty()
}

fn report(before: &Outcome, after: &Outcome) {
    let (counts, drift) = (&after.counts, Drift::between(before, after));
    for (name, value) in [
        ("messages", counts.messages),
        ("joins", counts.joins),
        ("faults", counts.faults),
        ("gaps_reconnected", counts.reconnected),
        ("gaps_rotated", counts.rotated),
        ("told_again_behind_a_gap", counts.retold),
        ("gaps_lagged", counts.lagged),
        ("gaps_without_cause", counts.without_cause),
        ("lags_miscounted", counts.miscounted),
        ("streams_stuck", counts.stuck),
        ("streams_ended", counts.ended),
        ("lost", counts.lost),
        ("twice", counts.twice),
    ] {
        println!("soak {name} {value}");
    }
    for (reason, count) in &after.disconnects {
        println!("soak disconnects_{reason} {count}");
    }
    println!("soak most_sockets {}", after.most_sockets);
    println!("soak fd_drift {}", drift.descriptors);
    println!("soak task_drift {}", drift.tasks);
    println!("soak heap_drift {}", drift.heap);
    println!("soak heap_drift_of_idle_manager {}", drift.idle_heap);
    println!("soak series {}", after.series);
    println!("soak series_drift {}", drift.series);
}
