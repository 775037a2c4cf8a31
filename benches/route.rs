//! CPU time to route one frame of Binance's combined streams and take its payload out, its number
//! included, against a parse of the whole frame into a `serde_json::Value`.
//!
//! ```text
//! cargo bench --bench route
//! ```
//!
//! Ours is the session alone, and pays for the transcript that writes down what it says.

mod common;

use std::hint::black_box;

use tokio::time::Instant;
use wsmux::protocol::{BinanceCombined, Dial, Protocol as _, Transcript};
use wsmux::{Message, StreamName};

use self::common::clock::{Clock, Cost};
use self::common::cpus::pinned;
use self::common::rounds::compare;

const COUNT: u64 = 500_000;
const BATCH: u64 = 128;
const NAME: &str = "bnbbtc@trade";

fn main() {
    pinned(|| compare("route_binance_170B", COUNT, ours, parsed));
}

/// As many frames of 170 bytes as come in one read.
fn frames() -> Vec<Message> {
    let frame = |t: u64| {
        let head = format!(
            r#"{{"stream":"{NAME}","data":{{"e":"trade","E":1672515782136,"s":"BNBBTC","t":"#
        );
        let tail = r#","p":"0.00100000","q":"100.00000000","T":1672515782136,"m":true,"M":true}}"#;
        Message::from(format!("{head}{t:010}{tail}").replace("\"t\":0", "\"t\":1"))
    };
    let frames: Vec<_> = (0..BATCH).map(frame).collect();
    assert!(frames.iter().all(|frame| (160..=180).contains(&frame.len())), "{}", frames[0].len());
    frames
}

fn ours() -> Cost {
    let frames = frames();
    let spot = BinanceCombined::spot();
    let names = [StreamName::try_from(NAME).unwrap()];
    let lane = spot.lane(&names[0]).unwrap();
    let mut session = spot.session(&Dial::first(&lane, &names));
    let (mut said, now) = (Transcript::default(), Instant::now());
    session.open(&mut said.cx(now));
    said.take();
    let clock = Clock::start();
    for _ in 0..COUNT / BATCH {
        for frame in &frames {
            session.receive(black_box(frame), &mut said.cx(now));
        }
        black_box(said.take());
    }
    clock.stop()
}

fn parsed() -> Cost {
    let frames = frames();
    let clock = Clock::start();
    for _ in 0..COUNT / BATCH {
        for frame in &frames {
            let text = black_box(frame).as_text().unwrap();
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(value["stream"], NAME);
            black_box(value);
        }
    }
    clock.stop()
}
