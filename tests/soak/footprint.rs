//! What a process holds: file descriptors, tasks and heap.

use std::fs;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::HEAP;
use super::session::Outcome;

/// How long the end of what was dropped may take: closing handshakes have two seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// What goes on after the last task has ended: the runtime itself gives back what it had of it.
const REST: Duration = Duration::from_millis(300);

/// What is held now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    pub(crate) descriptors: usize,
    pub(crate) heap: usize,
    pub(crate) tasks: usize,
}

impl Footprint {
    /// Takes it when the client's last task has ended, or does not end.
    pub(crate) fn take(client: &Runtime) -> Self {
        let tasks = || client.metrics().num_alive_tasks();
        client.block_on(async {
            let start = Instant::now();
            while tasks() > 0 && start.elapsed() < PATIENCE {
                sleep(Duration::from_millis(10)).await;
            }
            sleep(REST).await;
        });
        Self { descriptors: descriptors(), heap: HEAP.current_usage(), tasks: tasks() }
    }
}

/// Those of this process; the one that looks is among them each time.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("a Linux").count()
}

/// By how much a run has left more behind than the one before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drift {
    pub(crate) descriptors: i64,
    pub(crate) heap: i64,
    pub(crate) idle_heap: i64,
    pub(crate) series: i64,
    pub(crate) tasks: i64,
}

impl Drift {
    pub(crate) fn between(before: &Outcome, after: &Outcome) -> Self {
        let left = |of: fn(&Footprint) -> usize| difference(of(&before.left), of(&after.left));
        Self {
            descriptors: left(|left| left.descriptors),
            heap: left(|left| left.heap),
            // What a manager that carries nothing adds to that.
            idle_heap: difference(before.idle_heap, after.idle_heap),
            series: difference(before.series, after.series),
            tasks: left(|left| left.tasks),
        }
    }
}

fn difference(before: usize, after: usize) -> i64 {
    i64::try_from(after).unwrap() - i64::try_from(before).unwrap()
}
