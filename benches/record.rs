//! What recording costs: writing and reading, against the same bytes written and read by a plain loop.
//!
//! ```text
//! cargo bench --bench record
//! ```
//!
//! Prints `ratio <name> <value>`, what ours takes of the plain loop's time, and the figures behind it.
//! Both sides write into the page cache, and are synchronized once at the end.

use std::fs::{File, remove_file};
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::Instant;
use wsmux::protocol::Direct;
use wsmux::record::{Item, Recorder, RecorderOptions, Records};
use wsmux::test_util::memory;
use wsmux::{Config, Text, WsManager};

const COUNT: usize = 1_000_000;
const LEN: usize = 170;
const ROUNDS: usize = 5;

fn main() {
    let folder = std::env::temp_dir();
    let ours = folder.join(format!("wsmux-bench-{}.rec", std::process::id()));
    let plain = folder.join(format!("wsmux-bench-{}.txt", std::process::id()));
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        writes.push((record(&ours), write_plainly(&plain)));
        reads.push((read(&ours), read_plainly(&plain)));
        let overhead = File::open(&ours).unwrap().metadata().unwrap().len() as usize / COUNT - LEN;
        println!("overhead {overhead} bytes per message of {LEN}");
        remove_file(&ours).unwrap();
        remove_file(&plain).unwrap();
    }
    told("record_write", &mut writes);
    told("record_read", &mut reads);
}

fn told(name: &str, rounds: &mut [(Duration, Duration)]) {
    let ratio = |(ours, plain): &(Duration, Duration)| ours.as_secs_f64() / plain.as_secs_f64();
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let median = rounds[rounds.len() / 2];
    let per_second = |time: Duration| COUNT as f64 / time.as_secs_f64();
    println!("{name}: {:.0} per second, {:.0} plainly", per_second(median.0), per_second(median.1));
    println!("ratio {name} {:.2}", ratio(&median));
}

/// From a socket in memory into a file: all that the engine does is in it.
fn record(path: &Path) -> Duration {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (transport, mut server) = memory::pair();
        let direct = Direct::new("ws://bench/ws").unwrap();
        let config = Config::default().buffer(2 * COUNT).buffer_bytes(1 << 30);
        let manager =
            WsManager::builder(direct).config(config).transport(transport).build().unwrap();
        let recorder = Recorder::create(path, RecorderOptions::default()).await.unwrap();
        recorder.record(manager.subscribe::<Text>("x").unwrap()).unwrap();
        let peer = server.accept().await;
        let message: Text = "x".repeat(LEN).into();
        let start = Instant::now();
        peer.send_all(std::iter::repeat_n(message, COUNT));
        peer.close(4500, "done");
        recorder.ended().await.unwrap();
        let recorded = recorder.finish().await.unwrap();
        assert_eq!((recorded.messages(), recorded.missed()), (COUNT as u64, 0));
        start.elapsed()
    })
}

fn write_plainly(path: &Path) -> Duration {
    let message = "x".repeat(LEN);
    let start = Instant::now();
    let mut file = BufWriter::with_capacity(256 << 10, File::create(path).unwrap());
    for _ in 0..COUNT {
        writeln!(file, "{message}").unwrap();
    }
    file.into_inner().unwrap().sync_data().unwrap();
    start.elapsed()
}

fn read(path: &Path) -> Duration {
    let start = Instant::now();
    let records = Records::new(File::open(path).unwrap());
    let messages = records.filter(|r| matches!(r.as_ref().unwrap().item, Item::Message(_))).count();
    assert_eq!(messages, COUNT);
    start.elapsed()
}

/// Each message into memory of its own, as ours are.
fn read_plainly(path: &Path) -> Duration {
    let start = Instant::now();
    let mut file = BufReader::with_capacity(64 << 10, File::open(path).unwrap());
    for _ in 0..COUNT {
        let mut message = vec![0; LEN + 1];
        file.read_exact(&mut message).unwrap();
        std::hint::black_box(message);
    }
    start.elapsed()
}
