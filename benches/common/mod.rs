//! What the benchmarks share: the server, both kinds of clients, the clocks and the rounds.
//!
//! Machines are noisy and differ, so ratios are reported where there is something to compare with:
//! the two sides of one take turns in the same run, and the median of the rounds counts. Unix only.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod bare;
pub(crate) mod clock;
pub(crate) mod cpus;
pub(crate) mod ours;
pub(crate) mod pipeline;
pub(crate) mod rounds;
pub(crate) mod server;
pub(crate) mod stats;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::time;

/// The longest that one side of one round may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One thread, or `workers` of them.
pub(crate) fn runtime(workers: Option<usize>) -> Runtime {
    let mut builder = match workers {
        Some(workers) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
        None => Builder::new_current_thread(),
    };
    builder.enable_all().build().unwrap()
}

/// Runs `task` as a task of `runtime`, for some seconds at most.
pub(crate) fn run<T: Send + 'static>(
    runtime: &Runtime,
    task: impl Future<Output = T> + Send + 'static,
) -> T {
    runtime.block_on(async {
        time::timeout(TIMEOUT, tokio::spawn(task)).await.expect("done in time").unwrap()
    })
}

/// Both processes need a file descriptor for each socket. To be called before the server starts.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(65_536, |maximum| maximum.min(65_536));
    let current = limit.current.map_or(wanted, |current| current.max(wanted));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
}
