//! Closes what has lingered long enough.
//!
//! One task per manager, started when there first is something to wait for, and again if its
//! runtime has gone. It decides nothing: it asks the registry when a stream is due, and sleeps until
//! then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{self, Instant};

use super::core::Core;
use super::defect::{Defect, seeded};
use super::sync::Signal;

/// Something may be due earlier than the sweeper thinks.
pub(super) fn wake(core: &Arc<Core>) {
    core.sweeper.set();
    start(core);
}

/// Starts the sweeper if none runs.
pub(super) fn start(core: &Arc<Core>) {
    if core.sweeping.load(Ordering::Acquire) {
        return;
    }
    // Without a runtime nothing runs that could be closed; the next one to come here starts it.
    let Some(runtime) = core.runtime() else { return };
    if core.sweeping.swap(true, Ordering::AcqRel) {
        return;
    }
    let (hold, sweeping) = (core.hold(), Sweeping(Arc::clone(&core.sweeping)));
    let sweep = run(Arc::downgrade(core), Arc::clone(&core.sweeper), core.config.sweep_interval);
    runtime.spawn(async move {
        let (_hold, _sweeping) = (hold, sweeping);
        sweep.await;
    });
}

/// A running sweeper. Dropped also when its runtime goes.
struct Sweeping(Arc<AtomicBool>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.0.store(seeded(Defect::SweeperDiesWithRuntime), Ordering::Release);
    }
}

async fn run(core: Weak<Core>, changed: Arc<Signal>, interval: Duration) {
    loop {
        let next = match core.upgrade() {
            Some(core) if !core.is_shut_down() => core.sweep(Instant::now()),
            _ => return,
        };
        let changed = std::future::poll_fn(|cx| changed.poll_take(cx));
        match next {
            Some(due) => {
                let due = due.min(Instant::now() + interval);
                let _ = time::timeout_at(due, changed).await;
            }
            None => changed.await,
        }
    }
}
