//! How many descriptors are left.
//!
//! At the limit of the process `accept` fails for everybody, and so does each upstream dial: the streams
//! themselves would stop. So clients are refused before that.
//!
//! The limit (`RLIMIT_NOFILE`, which may be changed while the program runs) and what is open are looked
//! at once per second at most, and what was let in since counts as open. Where the system does not tell
//! (other than Linux), nobody is refused.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::defect::{Defect, seeded};

/// How long a look holds.
const LOOK: Duration = Duration::from_secs(1);

/// What of the limit may be used by clients, as a share of it.
#[derive(Debug)]
pub struct Descriptors {
    look: fn() -> Option<(u64, u64)>,
    seen: Mutex<Option<Seen>>,
    share: f64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    limit: u64,
    open: u64,
}

impl Default for Descriptors {
    /// 90 %: the rest is for upstream sockets, files and the operator.
    fn default() -> Self {
        Self::share(0.9)
    }
}

impl Descriptors {
    /// Clients are refused while more than this share of the limit is open; from 0 to 1.
    #[must_use]
    pub fn share(share: f64) -> Self {
        Self { look: system, seen: Mutex::default(), share }
    }

    /// Whether one more may be opened. It counts as open until the next look.
    #[must_use]
    pub fn take(&self) -> bool {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = seen.filter(|seen| now.duration_since(seen.at) < LOOK);
        let Some(mut current) = fresh.or_else(|| {
            let (open, limit) = (self.look)()?;
            Some(Seen { at: now, limit, open })
        }) else {
            return true;
        };
        #[expect(clippy::cast_precision_loss, reason = "descriptors are few")]
        let is_left = (current.open + 1) as f64 <= current.limit as f64 * self.share
            || seeded(Defect::DescriptorsAreNotCounted);
        current.open += u64::from(is_left);
        *seen = Some(current);
        is_left
    }
}

/// How many are open, and how many may be.
#[cfg(target_os = "linux")]
fn system() -> Option<(u64, u64)> {
    use rustix::process::{Resource, getrlimit};

    let limit = getrlimit(Resource::Nofile).current?;
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some((open as u64, limit))
}

#[cfg(not(target_os = "linux"))]
fn system() -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::gateway::defect::are_found;

    thread_local! {
        static OPEN: Cell<Option<u64>> = const { Cell::new(None) };
    }

    fn descriptors() -> Descriptors {
        Descriptors { look: || OPEN.get().map(|open| (open, 100)), ..Descriptors::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn nine_tenths_of_the_limit_are_for_clients() {
        let descriptors = descriptors();
        OPEN.set(Some(80));
        assert_eq!((0..100).filter(|_| descriptors.take()).count(), 10);
        OPEN.set(Some(89));
        assert!(!descriptors.take(), "a look holds for a second");
        tokio::time::advance(LOOK).await;
        assert!(descriptors.take() && !descriptors.take());
    }

    #[test]
    fn one_that_does_not_count_them_is_found_out() {
        are_found(&[(Defect::DescriptorsAreNotCounted, nine_tenths_of_the_limit_are_for_clients)]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_knows_nobody_is_refused() {
        assert!(descriptors().take());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_how_many_are_open() {
        let (open, limit) = system().unwrap();
        assert!(open >= 3 && open < limit, "{open} of {limit}");
    }
}
