//! The exchange, on threads of its own, so that nothing of it is counted as the client's.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use wsmux::test_util::MockExchange;

/// Messages per second of each stream.
const RATE: u32 = 4;

/// An exchange and its threads.
#[derive(Debug)]
pub(crate) struct Venue {
    exchange: Arc<MockExchange>,
    runtime: Runtime,
}

impl Venue {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let exchange = runtime.block_on(MockExchange::builder().rate(RATE).start()).unwrap();
        Self { exchange: Arc::new(exchange), runtime }
    }

    pub(crate) fn exchange(&self) -> Arc<MockExchange> {
        Arc::clone(&self.exchange)
    }

    /// Where what starts tasks of the exchange is to run.
    pub(crate) fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// Ends it and all it holds. Nobody else has it any more.
    pub(crate) fn stop(self) {
        assert_eq!(Arc::strong_count(&self.exchange), 1, "the exchange would outlive its threads");
        drop(self.exchange);
        self.runtime.shutdown_timeout(Duration::from_secs(10));
    }
}
