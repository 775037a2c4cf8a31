//! Wall time of joining and leaving a name that others keep open, as each thread sees it.
//!
//! ```text
//! cargo bench --bench registry
//! ```

mod common;

use std::hint::black_box;
use std::thread;

use wsmux::protocol::Direct;
use wsmux::test_util::memory;
use wsmux::{Message, WsManager};

use self::common::clock::Clock;
use self::common::rounds::{repeat, tell_absolute};
use self::common::runtime;

const TIMES: u64 = 200_000;

fn main() {
    for (name, threads) in [("subscribe_drop_ns", 1), ("subscribe_drop_4threads_ns", 4)] {
        let runtime = runtime(None);
        let (transport, mut server) = memory::pair();
        let manager = WsManager::builder(Direct::new("ws://bench/ws").unwrap())
            .transport(transport)
            .runtime(runtime.handle().clone())
            .build()
            .unwrap();
        let _open = runtime.block_on(async {
            let mut open = manager.subscribe::<Message>("name").unwrap();
            let peer = server.accept().await;
            open.ready().await.unwrap();
            (open, peer)
        });
        let figures = repeat(name, || {
            let clock = Clock::start();
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| join_and_leave(&manager));
                }
            });
            clock.stop().wall_ns(TIMES)
        });
        tell_absolute(name, "ns", &figures);
    }
}

fn join_and_leave(manager: &WsManager) {
    for _ in 0..TIMES {
        drop(black_box(manager.subscribe::<Message>("name").unwrap()));
    }
}
