//! Files: what is written reads back, whatever becomes of the file meanwhile; disks that are slow or
//! full.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::entry::What;
use super::output::Storage;
use super::writing::{Job, Sink};
use super::*;
use crate::config::Config;
use crate::error::Gap;
use crate::manager::WsManager;
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::{Direct, DisconnectReason};
use crate::test_util::memory;

/// A disk of so many bytes, which may stand still.
#[derive(Clone)]
struct Disk(Arc<(Mutex<State>, Condvar)>);

struct State {
    bytes: Vec<u8>,
    is_stuck: bool,
    size: usize,
    synced: usize,
}

impl Disk {
    fn new(size: usize) -> Self {
        let state = State { bytes: Vec::new(), is_stuck: false, size, synced: 0 };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().bytes.clone()
    }

    fn stick(&self, is_stuck: bool) {
        self.0.0.lock().unwrap().is_stuck = is_stuck;
        self.0.1.notify_all();
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.1.wait_while(self.0.0.lock().unwrap(), |s| s.is_stuck).unwrap();
        let left = state.size - state.bytes.len();
        if left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = bytes.len().min(left);
        state.bytes.extend(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Disk {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        state.synced = state.bytes.len();
        Ok(())
    }
}

const NAMES: [&str; 3] = ["a", "btcusdt@trade", "ラーメン"];

/// A stream, when it came in microseconds since the start, and what.
type Came = (usize, i64, What);

fn what() -> impl Strategy<Value = What> {
    let text = || "\\PC{0,40}";
    let reason = (0..18_u8, any::<u16>(), text()).prop_map(|(kind, number, words)| match kind {
        0 => DisconnectReason::closed(Some(number), &words),
        1 => DisconnectReason::closed(None, ""),
        2 => DisconnectReason::Http { status: number },
        3 => DisconnectReason::Io(io::ErrorKind::ConnectionReset),
        4 => DisconnectReason::HeartbeatTimeout,
        _ => DisconnectReason::Ended,
    });
    prop_oneof![
        4 => text().prop_map(|text| What::Message(text.into())),
        2 => vec(any::<u8>(), 0..300).prop_map(|bytes| What::Message(bytes.into())),
        1 => any::<u64>().prop_map(|missed| What::Gap(Gap::Lagged { missed })),
        1 => any::<Option<u64>>().prop_map(|missed| What::Gap(Gap::Sequence { missed })),
        1 => (any::<u32>(), reason).prop_map(|(ms, reason)| {
            let down_for = Duration::from_micros(u64::from(ms));
            What::Gap(Gap::Reconnected { down_for, reason })
        }),
        1 => (text(), text()).prop_map(|(label, words)| {
            What::Closed { label: label.into(), words: words.into() }
        }),
    ]
}

fn came() -> impl Strategy<Value = Vec<Came>> {
    vec((0..NAMES.len(), 0..10_000_000_i64, what()), 0..30)
}

fn name(index: usize) -> StreamName {
    NAMES[index].try_into().unwrap()
}

fn room() -> tokio::sync::OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

fn at(start: Instant, micros: i64) -> Instant {
    start + Duration::from_micros(micros.unsigned_abs())
}

/// A run, as a recorder writes it.
fn written(came: &[Came], is_finished: bool) -> Vec<u8> {
    let (start, disk) = (Instant::now(), Disk::new(usize::MAX));
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut sink = Sink::begin(Box::new(disk.clone()), start, wall).unwrap();
    let job = |(index, micros, what): &Came| {
        let items = vec![(at(start, *micros), what.clone())];
        Job::Items { name: name(*index), items, room: room() }
    };
    let end = is_finished.then(|| Job::Sync { is_end: true, done: oneshot::channel().0 });
    sink.run(came.iter().map(job).chain(end).collect(), false).unwrap();
    disk.bytes()
}

/// What was read, and why no more.
fn read(bytes: &[u8]) -> (Vec<Came>, Option<ReadError>) {
    let mut items = Vec::new();
    for record in Records::new(bytes) {
        match record {
            Ok(record) => {
                let index = NAMES.iter().position(|name| record.name == **name).unwrap();
                let micros = i64::try_from(record.at.as_micros()).unwrap();
                items.push((
                    index,
                    micros,
                    match record.item {
                        Item::Closed { label, words } => What::Closed { label, words },
                        Item::Gap(gap) => What::Gap(gap),
                        Item::Message(message) => What::Message(message),
                    },
                ));
            }
            Err(e) => return (items, Some(e)),
        }
    }
    (items, None)
}

/// The bytes at which records end, told by their lengths alone.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    while *ends.last().unwrap() < bytes.len() {
        let start = ends.last().unwrap();
        let len = u64::from_le_bytes(bytes[*start..start + 8].try_into().unwrap());
        ends.push(start + 16 + len as usize);
    }
    ends
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(came in came(), is_finished: bool) {
        let bytes = written(&came, is_finished);
        let (items, error) = read(&bytes);
        prop_assert_eq!(&items, &came);
        prop_assert!(error.is_none());
        let recording = Recording::from_bytes(bytes).unwrap();
        let end = if is_finished { End::Finished } else { End::Open };
        prop_assert_eq!(recording.end(), end);
        let messages = came.iter().filter(|(_, _, what)| matches!(what, What::Message(_))).count();
        prop_assert_eq!(recording.messages(), messages as u64);
    }

    #[test]
    fn a_bit_that_has_changed_is_found_out(came in came(), bit: prop::sample::Index) {
        let mut bytes = written(&came, true);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (items, error) = read(&bytes);
        prop_assert!(came.starts_with(&items));
        let start = ends(&written(&came, true)).into_iter().rfind(|end| *end <= bit / 8).unwrap();
        match error {
            Some(ReadError::Corrupt { at } | ReadError::Torn { at }) => {
                prop_assert_eq!(at, start as u64);
            }
            Some(ReadError::NotARecording) => prop_assert_eq!(start, 0),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

proptest! {
    // Each is read as often as it has bytes.
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn cut_anywhere_the_whole_records_before_it_read_back(came in came()) {
        let bytes = written(&came, true);
        let ends = ends(&bytes);
        // What each of the records before a place has to say.
        let mut said = vec![0];
        for end in &ends[1..] {
            said.push(read(&bytes[..*end]).0.len());
        }
        prop_assert_eq!(*said.last().unwrap(), came.len());
        prop_assert!(said.windows(2).all(|pair| pair[1] - pair[0] <= 1));
        for cut in 0..bytes.len() {
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            let (items, error) = read(&bytes[..cut]);
            prop_assert_eq!(&items[..], &came[..said[whole]]);
            match error {
                None => prop_assert_eq!(ends[whole], cut),
                Some(ReadError::Torn { at }) => prop_assert_eq!(ends[whole] as u64, at),
                Some(e) => prop_assert!(false, "{}", e),
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_that_are_no_recording_are_refused_and_nothing_else(bytes in vec(any::<u8>(), 1..300)) {
        let (items, error) = read(&bytes);
        prop_assert!(items.is_empty() && error.is_some());
    }

    /// Checksums keep out accidents. These are right, and what they are of is not.
    #[test]
    fn what_a_liar_writes_is_read_or_refused(
        came in came(),
        lies in vec((any::<prop::sample::Index>(), vec(any::<u8>(), 0..40)), 1..5),
    ) {
        let honest = written(&came, true);
        let ends = ends(&honest);
        let mut bytes = Vec::new();
        for (index, pair) in ends.windows(2).enumerate() {
            let lie = lies.iter().find(|(at, _)| at.index(ends.len()) == index);
            match lie {
                Some((_, lie)) => {
                    let mut data = honest[pair[0] + 12..pair[1] - 4].to_vec();
                    let from = lie.first().map_or(0, |first| usize::from(*first)) % (data.len() + 1);
                    data.splice(from.., lie.iter().copied());
                    frame::write(&mut bytes, |out| out.write_all(&data)).unwrap();
                }
                None => bytes.extend(&honest[pair[0]..pair[1]]),
            }
        }
        for record in Records::new(&bytes[..]).max_record(1 << 20) {
            if let Err(e) = record {
                let named = matches!(
                    e,
                    ReadError::Invalid { .. } | ReadError::NotARecording | ReadError::Version { .. }
                );
                prop_assert!(named, "{}", e);
            }
        }
    }
}

#[test]
fn a_stream_that_goes_on_in_a_later_run_has_a_gap_there() {
    let message = |text: &str| What::Message(text.into());
    let first = written(&[(0, 5, message("1")), (1, 6, message("x"))], false);
    let second = written(&[(0, 1, message("2")), (2, 1, message("y"))], true);
    let (items, error) = read(&[first, second].concat());
    assert!(error.is_none());
    let gap = What::Gap(Gap::Sequence { missed: None });
    // Both runs begin at the same time by the wall clock, which must not make time run backwards.
    let expected = [
        (0, 5, message("1")),
        (1, 6, message("x")),
        (0, 6, gap),
        (0, 7, message("2")),
        (2, 7, message("y")),
    ];
    assert_eq!(items, expected);
}

#[test]
fn what_a_later_version_adds_is_passed_over_and_a_later_version_is_not() {
    let came = [(0, 5, What::Message("1".into()))];
    let mut bytes = written(&came, false);
    // An array of 200 and a string.
    frame::write(&mut bytes, |out| out.write_all(&[0x92, 0xcc, 200, 0xa1, b'x'])).unwrap();
    assert_eq!(read(&bytes).0, came);
    assert!(read(&bytes).1.is_none());
    let mut later = Vec::new();
    frame::write(&mut later, |out| out.write_all(&[0x94, 0, 9, 0, 0xa1, b'x'])).unwrap();
    assert!(matches!(Recording::from_bytes(later), Err(ReadError::Version { found: 9 })));
}

#[test]
fn a_large_record_is_refused_by_name() {
    let bytes = written(&[(0, 0, What::Message("x".repeat(1000).into()))], true);
    let read = Records::new(&bytes[..]).max_record(1000).last();
    assert!(matches!(read, Some(Err(ReadError::TooLarge { len: 1004..1100, max: 1000, .. }))));
}

#[test]
fn a_message_costs_less_than_thirty_bytes() {
    let came: Vec<_> =
        (0..1000).map(|n| (0, n * 5000, What::Message("x".repeat(200).into()))).collect();
    let overhead = written(&came, true).len() / came.len() - 200;
    assert!(overhead < 30, "{overhead}");
}

async fn recorder(disk: &Disk, queue: usize) -> Recorder {
    let (options, disk) = (RecorderOptions::default().queue_bytes(queue), disk.clone());
    Recorder::start(options, move || Ok(Box::new(disk))).await.unwrap()
}

fn manager(buffer: usize) -> (WsManager, memory::MemoryServer) {
    let (transport, server) = memory::pair();
    let mut config = Config::default().buffer(buffer);
    config.heartbeat.interval = Duration::from_secs(1_000_000);
    let direct = Direct::new("ws://test/ws").unwrap();
    (WsManager::builder(direct).config(config).transport(transport).build().unwrap(), server)
}

/// Lets all tasks do what they can. Time cannot: it stands still while a thread is stuck.
async fn settle() {
    for _ in 0..1000 {
        yield_now().await;
    }
}

/// Counts what is there, and holds it to be without a hole that is not told of.
fn accounted(bytes: &[u8]) -> (u64, u64) {
    let (mut next, mut missed) = (0, 0);
    for (_, _, what) in read(bytes).0 {
        match what {
            What::Message(message) => {
                assert_eq!(message, Message::from(next.to_string()));
                next += 1;
            }
            What::Gap(Gap::Lagged { missed: more }) => {
                (next, missed) = (next + more, missed + more)
            }
            other => panic!("{other:?}"),
        }
    }
    (next, missed)
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stands_still_makes_the_recorder_lag_and_say_so() {
    let (manager, mut server) = manager(16);
    let disk = Disk::new(usize::MAX);
    let recorder = recorder(&disk, 1000).await;
    recorder.record(manager.subscribe::<Message>("a").unwrap()).unwrap();
    let peer = server.accept().await;
    for n in 0..1000 {
        disk.stick((100..900).contains(&n));
        peer.send(n.to_string());
        settle().await;
    }
    recorder.flush().await.unwrap();
    peer.send("1000");
    settle().await;
    let recorded = recorder.finish().await.unwrap();
    let (all, missed) = accounted(&disk.bytes());
    assert_eq!(all, 1001, "each is there, or counted where it is missing");
    assert!((600..800).contains(&missed), "the queue and the ring hold some: {missed}");
    assert_eq!((recorded.missed(), recorded.messages()), (missed, 1001 - missed));
    assert!(manager.subscribe::<Message>("a").is_ok(), "nobody else is concerned");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_to_everybody_and_what_fits_reads_back() {
    let (manager, mut server) = manager(1024);
    let disk = Disk::new(1000);
    let recorder = recorder(&disk, 1 << 20).await;
    recorder.record(manager.subscribe::<Message>("a").unwrap()).unwrap();
    let peer = server.accept().await;
    for n in 0..100 {
        peer.send(n.to_string());
        settle().await;
    }
    let full = |result: Result<(), RecordError>| match result {
        Err(RecordError::Io(e)) => assert_eq!(e.kind(), io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    };
    full(recorder.ended().await);
    full(recorder.flush().await);
    full(recorder.record(manager.subscribe::<Message>("b").unwrap()));
    full(recorder.finish().await.map(drop));
    let bytes = disk.bytes();
    assert_eq!(bytes.len(), 1000);
    assert!(matches!(read(&bytes).1, Some(ReadError::Torn { .. })));
    assert!(accounted(&bytes).0 > 20);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_synchronized_within_the_period_and_by_a_flush() {
    let (manager, mut server) = manager(16);
    let disk = Disk::new(usize::MAX);
    let recorder = recorder(&disk, 1000).await;
    recorder.record(manager.subscribe::<Message>("a").unwrap()).unwrap();
    let peer = server.accept().await;
    let synced = || disk.0.0.lock().unwrap().synced;
    let begun = synced();
    peer.send("0");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(disk.bytes().len() > begun, "it is handed to the system at once");
    assert_eq!(synced(), begun);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(synced(), disk.bytes().len());
    peer.send("1");
    settle().await;
    recorder.flush().await.unwrap();
    assert_eq!(synced(), disk.bytes().len());
    assert_eq!(accounted(&disk.bytes()), (2, 0));
}

/// A recorder may outlive the runtime that it was made in.
#[test]
fn a_recorder_whose_runtime_has_gone_says_so() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let recorder = first.block_on(recorder(&Disk::new(usize::MAX), 1000));
    drop(first);
    runtime().block_on(async {
        assert!(matches!(recorder.flush().await, Err(RecordError::Io(_))));
        assert!(matches!(recorder.ended().await, Err(RecordError::Io(_))));
        assert!(recorder.finish().await.is_err());
    });
}

#[test]
fn no_time_is_so_late_that_it_cannot_be_held() {
    let mut bytes = Vec::new();
    let item = entry::Entry::Item { dt: i64::MAX, id: 0, what: What::Message("x".into()) };
    for _ in 0..10 {
        for entry in [
            entry::Entry::Start { wall: u64::MAX },
            entry::Entry::Name { id: 0, name: "a".into() },
            item.clone(),
        ] {
            frame::write(&mut bytes, |out| entry.write(out)).unwrap();
        }
    }
    let recording = Recording::from_bytes(bytes).unwrap();
    assert_eq!(recording.messages(), 10);
    assert!(recording.length() <= Duration::from_secs(1000 * 365 * 24 * 3600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_end_tells_is_all_that_was_written() {
    for _ in 0..100 {
        let (manager, mut server) = manager(1024);
        let disk = Disk::new(usize::MAX);
        let recorder = recorder(&disk, 1 << 20).await;
        recorder.record(manager.subscribe::<Message>("a").unwrap()).unwrap();
        let peer = server.accept().await;
        peer.send_all((0..500).map(|n| n.to_string()));
        peer.close(4500, "over");
        recorder.ended().await.unwrap();
        let recorded = recorder.finish().await.unwrap();
        assert_eq!((recorded.messages(), recorded.missed()), (500, 0));
        assert_eq!(recorded.bytes(), disk.bytes().len() as u64);
    }
}
