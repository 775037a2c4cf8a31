//! CPU time per delivery of one stream to many readers, from the socket on, against a bare
//! tokio-tungstenite socket whose messages go through `tokio::sync::broadcast`.
//!
//! ```text
//! cargo bench --bench fanout
//! cargo bench --bench fanout -- ours fanout_100    # one side, for a profiler
//! ```

mod common;

use std::cell::Cell;

use tokio_tungstenite::tungstenite::Message as Wire;
use wsmux::{Message, MessageRef, Shared};

use self::common::bare::Bare;
use self::common::cpus::pinned;
use self::common::rounds::compare;
use self::common::server::{Feed, Server, Trade, serve_if_asked};
use self::common::{ours, pipeline, run, runtime};

const BYTES: usize = 170;

fn main() {
    serve_if_asked();
    let server = Server::start();
    pinned(|| {
        fan_out("fanout_10", &server, (10, 400_000), None);
        fan_out("fanout_100", &server, (100, 40_000), None);
        fan_out("fanout_1000", &server, (1000, 8_000), None);
    });
    fan_out("fanout_100_mt", &server, (100, 40_000), Some(2));
    pinned(|| {
        in_batches("fanout_100_batches", &server, (100, 40_000));
        decode_once("decode_once_100", &server, (100, 20_000));
    });
}

fn fan_out(name: &str, server: &Server, size: (u64, u64), workers: Option<usize>) {
    let (readers, count) = size;
    let feed = Feed::Flood { bytes: BYTES, count };
    let (lost, bare_lost) = (Cell::new(0), Cell::new(0));
    let ours = || {
        let look = |message: Message| assert_eq!(message.len(), BYTES);
        let manager = ours::manager(server, feed);
        let outcome = run(&runtime(workers), pipeline::ours(manager, size, look));
        lost.set(lost.get() + outcome.missed);
        outcome.cost
    };
    let bare = || {
        let look = |message: Wire| assert_eq!(message.len(), BYTES);
        let outcome = run(&runtime(workers), pipeline::bare(Bare::new(server, feed), size, look));
        bare_lost.set(bare_lost.get() + outcome.missed);
        outcome.cost
    };
    compare(name, count * readers, ours, bare);
    if lost.get() + bare_lost.get() > 0 {
        println!("# {name}: ours lost {} messages, bare {}", lost.get(), bare_lost.get());
    }
}

/// Readers of whole batches, against the same loop that has none.
fn in_batches(name: &str, server: &Server, size: (u64, u64)) {
    let (readers, count) = size;
    let feed = Feed::Flood { bytes: BYTES, count };
    let ours = || {
        let look = |message: MessageRef<'_>| assert_eq!(message.len(), BYTES);
        let manager = ours::manager(server, feed);
        let outcome = run(&runtime(None), pipeline::ours_in_batches(manager, size, look));
        assert_eq!(outcome.missed, 0, "messages were lost");
        outcome.cost
    };
    let bare = || {
        let look = |message: Wire| assert_eq!(message.len(), BYTES);
        run(&runtime(None), pipeline::bare(Bare::new(server, feed), size, look)).cost
    };
    compare(name, count * readers, ours, bare);
}

/// Every reader looks at a number in the message: parsed once, against once per reader.
fn decode_once(name: &str, server: &Server, size: (u64, u64)) {
    let feed = Feed::Flood { bytes: BYTES, count: size.1 };
    let ours = || {
        let look = |trade: Shared<Trade>| assert!(trade.p > 0.0);
        let manager = ours::manager(server, feed);
        let outcome = run(&runtime(None), pipeline::ours(manager, size, look));
        assert_eq!(outcome.missed, 0, "messages were lost");
        outcome.cost
    };
    let bare = || {
        let look = |message: Wire| {
            let trade: Trade = serde_json::from_str(message.to_text().unwrap()).unwrap();
            assert!(trade.p > 0.0);
        };
        run(&runtime(None), pipeline::bare(Bare::new(server, feed), size, look)).cost
    };
    compare(name, size.1, ours, bare);
}
