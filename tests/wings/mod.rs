//! Checks of the pool against mistakes that are made on purpose.
//!
//! Each check runs fixed programs against a server that keeps books, and says what is wrong. It has to
//! find nothing as things are, and each mistake of `requests/defect.rs` in one of its programs. The
//! programs are fixed, time is paused and one thread does it all, so neither is a matter of chance.
//!
//! They are here as the wing is built here with the mistakes in it, and from what a user has.

mod batch;
#[cfg(feature = "cache")]
mod cache;
mod pool;
mod rotation;

use std::time::Duration;

use wsmux::Limiter;
use wsmux::test_util::memory::MemoryTransport;

use crate::asker::Asker;
use crate::requests::defect::{Defect, with};
use crate::requests::{PoolConfig, RequestPool, RequestPoolBuilder};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a check has found.
type Found = Result<(), String>;

/// Runs a check with a mistake, or as things are.
fn check(defect: Option<Defect>, check: impl AsyncFnOnce() -> Found) -> Found {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    with(defect, || runtime.block_on(check()))
}

/// The check finds nothing as things are, and each of the mistakes.
fn finds(defects: &[Defect], check: impl Fn(Option<Defect>) -> Found) {
    assert_eq!(check(None), Ok(()));
    for defect in defects {
        let found = check(Some(*defect));
        println!("{defect:?}: {found:?}");
        assert!(found.is_err(), "{defect:?} is not found");
    }
}

fn built(transport: MemoryTransport, config: PoolConfig) -> RequestPoolBuilder {
    let mut connection = PoolConfig::connection();
    connection.heartbeat.interval = 86_400 * SECOND;
    RequestPool::builder(Asker::new("ws://test/ws"), "x")
        .config(config)
        .connection(connection)
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).seed(7))
}

/// Chance that is the same each time: Knuth's linear congruential generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[usize::try_from(self.below(choice.len() as u64)).unwrap_or_default()]
    }
}
