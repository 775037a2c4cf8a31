//! Which CPU does what: the client has the first one, the server the last one.
//!
//! Where there is only one, or where threads cannot be pinned, nothing is pinned.

#[cfg(target_os = "linux")]
mod imp {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    fn pin(choose: impl FnOnce(&[usize]) -> usize) {
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        if cpus.len() > 1 {
            let mut one = CpuSet::new();
            one.set(choose(&cpus));
            let _ = sched_setaffinity(None, &one);
        }
    }

    pub(crate) fn pin_server() {
        pin(|cpus| cpus[cpus.len() - 1]);
    }

    /// Runs `run` with this thread, and those it starts, on the client's CPU.
    pub(crate) fn pinned<T>(run: impl FnOnce() -> T) -> T {
        let before = sched_getaffinity(None);
        pin(|cpus| cpus[0]);
        let output = run();
        if let Ok(before) = before {
            let _ = sched_setaffinity(None, &before);
        }
        output
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    pub(crate) fn pin_server() {}

    pub(crate) fn pinned<T>(run: impl FnOnce() -> T) -> T {
        run()
    }
}

#[allow(unused_imports, reason = "each benchmark uses a part of it")]
pub(crate) use imp::{pin_server, pinned};
