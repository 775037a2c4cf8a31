//! A recorder that is killed while it works.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use wsmux::Config;
use wsmux::record::{End, Item, ReadError, Recorder, RecorderOptions, Records};
use wsmux::{Gap, Message};

use super::{Scratch, subscribed};

const FILE: &str = "WSMUX_TEST_RECORD_INTO";
const TEST: &str = "record::crash::a_recorder_that_is_killed_under_load_keeps_what_it_has_flushed";

#[test]
fn a_recorder_that_is_killed_under_load_keeps_what_it_has_flushed() {
    if let Some(file) = std::env::var_os(FILE) {
        return record_for_ever(Path::new(&file));
    }
    for flushes in [1, 3, 10] {
        let file = Scratch::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture"])
            .env(FILE, file.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut flushed = || lines.find_map(|line| line.strip_prefix("flushed ")?.parse().ok());
        let mut last: u64 = 0;
        for _ in 0..flushes {
            last = flushed().expect("it records");
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        while let Some(later) = flushed() {
            last = later;
        }
        let (read, _) = accounted(file.path());
        assert!(read >= last, "{read} of {last} flushed");
        assert!(goes_on(file.path()) >= read);
    }
}

/// Sends without a pause, and says how much of it has been flushed.
fn record_for_ever(file: &Path) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (manager, mut server) = crate::manager_with(Config::default());
        let recorder = Recorder::create(file, RecorderOptions::default()).await.unwrap();
        recorder.record(subscribed::<Message>(&manager, "x")).unwrap();
        let mut reader = subscribed::<Message>(&manager, "x");
        let peer = server.accept().await;
        let mut sent = 0;
        loop {
            for _ in 0..50 {
                peer.send_all((sent..sent + 100).map(|n| format!("{n} {}", "x".repeat(n % 300))));
                sent += 100;
                while crate::message(&mut reader).await.split(' ').next()
                    != Some(&*(sent - 1).to_string())
                {}
            }
            recorder.flush().await.unwrap();
            println!("flushed {sent}");
        }
    });
}

/// How many messages are in it, each in its place or counted as missing, and whether it is torn.
fn accounted(file: &Path) -> (u64, bool) {
    let mut next = 0;
    for record in Records::new(std::fs::File::open(file).unwrap()) {
        match record.map(|record| record.item) {
            Ok(Item::Message(message)) => {
                let text = message.as_text().unwrap();
                assert_eq!(text.split(' ').next(), Some(&*next.to_string()));
                next += 1;
            }
            Ok(Item::Gap(Gap::Lagged { missed })) => next += missed,
            Err(ReadError::Torn { .. }) => return (next, true),
            other => panic!("{other:?}"),
        }
    }
    (next, false)
}

/// Whether it can be appended to: how many records it then has.
fn goes_on(file: &Path) -> u64 {
    super::paused(async {
        let recorder = Recorder::append(file, RecorderOptions::default()).await.unwrap();
        recorder.finish().await.unwrap();
    });
    let recording = wsmux::record::Recording::open(file).unwrap();
    assert_eq!(recording.end(), End::Finished);
    let missed = recording.records().unwrap().map(|record| match record.unwrap().item {
        Item::Gap(Gap::Lagged { missed }) => missed,
        _ => 0,
    });
    recording.messages() + missed.sum::<u64>()
}
