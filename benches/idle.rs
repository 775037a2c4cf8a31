//! CPU time per second of streams that nothing comes on, with the default heartbeat: over its whole
//! interval, so that each socket is pinged once.
//!
//! ```text
//! cargo bench --bench idle
//! ```

mod common;

use tokio::time;
use wsmux::{Config, Message};

use self::common::clock::Clock;
use self::common::cpus::pinned;
use self::common::rounds::{is_wanted, tell_absolute};
use self::common::server::{Feed, Server, serve_if_asked};
use self::common::{ours, raise_file_limit, runtime};

const NAME: &str = "idle_cpu_1000";
const STREAMS: usize = 1000;
const ROUNDS: usize = 2;

fn main() {
    raise_file_limit();
    serve_if_asked();
    if !is_wanted(NAME) {
        return;
    }
    let server = Server::start();
    let feed = Feed::Crowd { first: 0 };
    let interval = Config::default().heartbeat.interval;
    let figures = pinned(|| {
        runtime(None).block_on(async {
            let manager = ours::manager(&server, feed);
            let _streams = ours::subscribe_many::<Message>(&manager, STREAMS).await;
            let mut figures = Vec::new();
            for _ in 0..ROUNDS {
                let clock = Clock::start();
                time::sleep(interval).await;
                let cost = clock.stop();
                figures.push(cost.cpu.as_secs_f64() * 1000.0 / cost.wall.as_secs_f64());
            }
            figures
        })
    });
    tell_absolute(NAME, "ms of CPU per second", &figures);
}
