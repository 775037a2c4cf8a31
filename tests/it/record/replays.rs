//! A day with whatever may happen, recorded, and played to readers that do not know it is a replay.

use futures::FutureExt as _;
use futures::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::sleep;
use wsmux::record::{End, Item, RecordError, Recorder, RecorderOptions, Recording, Replay};
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{
    Config, DisconnectReason, Gap, InvalidName, Message, RetryPolicy, SubscribeError, Text,
    WsManager,
};

use super::{Got, Scratch, all, got, paused, replaying, small, subscribed};
use crate::lines::Lines;
use crate::{MS, SECOND, config, manager, manager_of, settle};

/// Two of them share a socket.
const NAMES: [&str; 3] = ["a1", "a2", "b1"];

#[derive(Clone, Debug)]
enum Step {
    /// The server closes the socket of a name.
    Break(usize, u16),
    /// The server ends a name, and joins it again.
    End(usize),
    Gap(usize, Option<u8>),
    /// The server refuses a name for good.
    Reject(usize),
    /// Several messages in one read.
    Send(usize, Vec<u16>),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        6 => (name(), vec(any::<u16>(), 1..5)).prop_map(|(name, all)| Step::Send(name, all)),
        3 => (0..2000_u16).prop_map(Step::Wait),
        1 => (name(), 4000..4400_u16).prop_map(|(name, code)| Step::Break(name, code)),
        1 => name().prop_map(Step::End),
        1 => (name(), any::<Option<u8>>()).prop_map(|(name, missed)| Step::Gap(name, missed)),
        1 => prop_oneof![9 => Just(Step::Wait(1)), 1 => name().prop_map(Step::Reject)],
    ]
}

/// The server of a day, with a socket per lane.
struct Day {
    gone: [bool; 3],
    peers: [Option<Peer>; 2],
    server: MemoryServer,
}

fn lane(name: usize) -> usize {
    usize::from(NAMES[name].starts_with('b'))
}

impl Day {
    async fn new(server: MemoryServer) -> Self {
        let mut this = Self { gone: [false; 3], peers: [None, None], server };
        for _ in 0..2 {
            this.accept().await;
        }
        this
    }

    /// Accepts the next socket, and joins its names.
    async fn accept(&mut self) {
        let peer = self.server.accept().await;
        let lane = usize::from(peer.request().url().path() == "/b");
        self.peers[lane] = Some(peer);
        self.confirm(lane).await;
    }

    /// Confirms the next join.
    async fn confirm(&mut self, lane: usize) {
        let peer = self.peers[lane].as_mut().unwrap();
        while let Some(frame) = peer.recv().await {
            let Frame::Data(message) = frame else { continue };
            if let Some(names) = message.as_text().unwrap().strip_prefix('+') {
                names.split(' ').for_each(|name| peer.send(format!("={name}")));
                break;
            }
        }
        settle().await;
    }

    async fn go(&mut self, step: Step) {
        match step {
            Step::Wait(ms) => sleep(u32::from(ms) * MS).await,
            Step::Break(name, _)
            | Step::End(name)
            | Step::Gap(name, _)
            | Step::Reject(name)
            | Step::Send(name, _)
                if self.gone[name] => {}
            Step::Break(name, code) => {
                self.peers[lane(name)].take().unwrap().close(code, "going");
                self.accept().await;
            }
            Step::End(name) => {
                self.say(name, "#", "");
                self.confirm(lane(name)).await;
            }
            Step::Gap(name, missed) => {
                let missed = missed.map_or("?".to_owned(), |missed| missed.to_string());
                self.say(name, "~", &format!(" {missed}"));
            }
            Step::Reject(name) => {
                self.gone[name] = true;
                self.say(name, "!", " no more");
            }
            Step::Send(name, all) => {
                let peer = self.peers[lane(name)].as_ref().unwrap();
                peer.send_all(all.iter().map(|n| format!("{}:{n}", NAMES[name])));
            }
        }
        settle().await;
    }

    fn say(&self, name: usize, verb: &str, rest: &str) {
        let peer = self.peers[lane(name)].as_ref().unwrap();
        peer.send(format!("{verb}{}{rest}", NAMES[name]));
    }
}

/// What each reader got on the day, and its recording.
async fn recorded(steps: Vec<Step>, file: &Scratch) -> Vec<Vec<Got>> {
    let config = config().retry(RetryPolicy { max_delay: SECOND, ..RetryPolicy::forever() });
    let (manager, server) = manager_of(Lines::default(), config);
    let recorder = Recorder::create(file.path(), RecorderOptions::default()).await.unwrap();
    let mut readers = Vec::new();
    for name in NAMES {
        recorder.record(subscribed::<Text>(&manager, name)).unwrap();
        readers.push(subscribed(&manager, name));
    }
    let mut day = Day::new(server).await;
    for step in steps {
        day.go(step).await;
    }
    recorder.finish().await.unwrap();
    let mut all = Vec::new();
    for reader in &mut readers {
        let items = std::iter::from_fn(|| reader.recv().now_or_never().flatten());
        all.push(items.map(got).collect());
    }
    all
}

/// As a replay has it, by its documentation.
fn replayed(day: Vec<Got>) -> Vec<Got> {
    let mut replayed: Vec<_> = day
        .into_iter()
        .map(|item| match item {
            Got::Closed(words) => {
                Got::Closed(format!("rejected by the server: as recorded: {words}"))
            }
            other => other,
        })
        .collect();
    if !matches!(replayed.last(), Some(Got::Closed(_))) {
        replayed.push(Got::Closed("end".into()));
    }
    replayed
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_replay_is_what_a_reader_got_on_the_day(steps in vec(step(), 0..40)) {
        let file = Scratch::new();
        let day = paused(recorded(steps, &file));
        for config in [config(), small()] {
            let replay = Replay::open(file.path()).unwrap().lossless();
            prop_assert_eq!(replay.recording().end(), End::Finished);
            let again = paused(async {
                let manager = replaying(replay, config);
                join_all(NAMES.map(|name| all(subscribed(&manager, name)))).await
            });
            let day: Vec<_> = day.iter().cloned().map(replayed).collect();
            prop_assert_eq!(again, day);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn text_stays_text_and_bytes_stay_bytes() {
    let (manager, mut server) = manager();
    let file = Scratch::new();
    let recorder = Recorder::create(file.path(), RecorderOptions::default()).await.unwrap();
    // Whatever it is read as.
    recorder.record(subscribed::<u64>(&manager, "x")).unwrap();
    let peer = server.accept().await;
    let sent: [Message; 4] = ["text".into(), vec![0xff, 0].into(), "".into(), Vec::new().into()];
    peer.send_all(sent.clone());
    settle().await;
    assert_eq!(recorder.finish().await.unwrap().messages(), 4);
    let manager = replaying(Replay::open(file.path()).unwrap(), config());
    let mut expected: Vec<_> = sent.map(Got::Message).into();
    expected.push(Got::Closed("end".into()));
    assert_eq!(all(subscribed(&manager, "x")).await, expected);
    let unknown = manager.subscribe::<Text>("y").unwrap_err();
    assert!(matches!(unknown, SubscribeError::InvalidName(InvalidName::Unsupported { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_recorders_own_lag_comes_back_as_what_is_missing() {
    let file = Scratch::new();
    {
        let (manager, mut server) = crate::manager_with(Config::default().buffer(4));
        let recorder = Recorder::create(file.path(), RecorderOptions::default()).await.unwrap();
        let slow = subscribed::<Text>(&manager, "x");
        let peer = server.accept().await;
        peer.send_all((0..10).map(|n| n.to_string()));
        settle().await;
        recorder.record(slow).unwrap(); // It has waited for too long.
        settle().await;
        let recorded = recorder.finish().await.unwrap();
        assert_eq!((recorded.missed(), recorded.messages()), (6, 4));
    }
    let manager = replaying(Replay::open(file.path()).unwrap(), config());
    let items = all(subscribed(&manager, "x")).await;
    assert_eq!(items[0], Got::Gap(Gap::Sequence { missed: Some(6) }));
    assert_eq!(items[1..5], [6, 7, 8, 9].map(|n| Got::Message(n.to_string().into())));
}

#[tokio::test(start_paused = true)]
async fn a_recording_goes_on_in_the_same_file_behind_a_gap() {
    let file = Scratch::new();
    for run in 0..3 {
        let (manager, mut server) = manager();
        let recorder = Recorder::append(file.path(), RecorderOptions::default()).await.unwrap();
        recorder.record(subscribed::<Text>(&manager, "x")).unwrap();
        let peer = server.accept().await;
        peer.send(run.to_string());
        settle().await;
        if run == 1 {
            recorder.flush().await.unwrap();
            drop(recorder);
            // A writer that is killed leaves a part of a record.
            let mut bytes = std::fs::read(file.path()).unwrap();
            bytes.extend([200, 0, 0]);
            std::fs::write(file.path(), bytes).unwrap();
            let torn = Recording::open(file.path()).unwrap();
            assert!(matches!(torn.end(), End::Torn { .. }) && torn.messages() == 2);
        } else {
            recorder.finish().await.unwrap();
        }
    }
    let recording = Recording::open(file.path()).unwrap();
    assert_eq!((recording.end(), recording.messages(), recording.gaps()), (End::Finished, 3, 2));
    let existing = Recorder::create(file.path(), RecorderOptions::default()).await;
    assert!(matches!(existing, Err(RecordError::Io(_))), "it is not overwritten");
    let manager = replaying(Replay::new(recording), config());
    let lost = Got::Gap(Gap::Sequence { missed: None });
    let message = |n: u8| Got::Message(n.to_string().into());
    let end = Got::Closed("end".into());
    let expected = [message(0), lost.clone(), message(1), lost, message(2), end];
    assert_eq!(all(subscribed(&manager, "x")).await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_is_neither_replayed_nor_appended_to() {
    let file = Scratch::new();
    let recorder = Recorder::create(file.path(), RecorderOptions::default()).await.unwrap();
    recorder.finish().await.unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes[20] ^= 1;
    std::fs::write(file.path(), &bytes).unwrap();
    assert!(Replay::open(file.path()).is_err());
    let appended = Recorder::append(file.path(), RecorderOptions::default()).await;
    assert!(matches!(appended, Err(RecordError::Unreadable(_))));
    assert_eq!(std::fs::read(file.path()).unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_recorded_once_at_a_time_and_again_behind_a_gap() {
    let (manager, mut server) = manager();
    let file = Scratch::new();
    let recorder = Recorder::create(file.path(), RecorderOptions::default()).await.unwrap();
    recorder.record(subscribed::<Text>(&manager, "x")).unwrap();
    let twice = recorder.record(subscribed::<Text>(&manager, "x"));
    assert!(matches!(twice, Err(RecordError::AlreadyRecorded { .. })));
    let peer = server.accept().await;
    peer.send("1");
    peer.close(4500, "over");
    recorder.ended().await.unwrap();
    recorder.record(subscribed::<Text>(&manager, "x")).unwrap();
    let peer = server.accept().await;
    peer.send("2");
    settle().await;
    recorder.finish().await.unwrap();
    let recording = Recording::open(file.path()).unwrap();
    let items: Vec<_> = recording.records().unwrap().map(|record| record.unwrap().item).collect();
    assert_eq!(items.len(), 4);
    assert!(matches!(&items[1], Item::Closed { label, .. } if &**label == "fatal"));
    assert_eq!(items[2], Item::Gap(Gap::Sequence { missed: None }));
    // Who subscribes again gets what comes after the end.
    let manager = replaying(Replay::new(recording).speed(0.01), config());
    let first = all(subscribed(&manager, "x")).await;
    assert!(matches!(&first[..], [Got::Message(_), Got::Closed(words)] if words.contains("over")));
    let second = all(subscribed(&manager, "x")).await;
    assert_eq!(second.last(), Some(&Got::Closed("end".into())));
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_no_breaks_of_its_own() {
    let file = Scratch::new();
    {
        let (manager, mut server) = manager();
        let recorder = Recorder::create(file.path(), RecorderOptions::default()).await.unwrap();
        recorder.record(subscribed::<Text>(&manager, "x")).unwrap();
        let peer = server.accept().await;
        peer.send("before");
        sleep(3600 * SECOND).await;
        peer.send("after");
        settle().await;
        recorder.finish().await.unwrap();
    }
    // An hour of silence, with the heartbeats of the defaults.
    let manager = replaying(Replay::open(file.path()).unwrap().lossless(), Config::default());
    let items = all(subscribed(&manager, "x")).await;
    assert_eq!(items.len(), 3, "{items:?}");
    assert_eq!(manager.metrics().gaps, 0);
}

#[tokio::test(start_paused = true)]
async fn a_recorded_break_says_how_long_and_why() {
    let file = Scratch::new();
    let told = {
        let (manager, mut server): (WsManager, _) = manager();
        let recorder = Recorder::create(file.path(), RecorderOptions::default()).await.unwrap();
        recorder.record(subscribed::<Text>(&manager, "x")).unwrap();
        let mut reader = subscribed(&manager, "x");
        let peer = server.accept().await;
        peer.close(1001, "deploy");
        let _peer = server.accept().await;
        let told = crate::gap(&mut reader).await;
        settle().await;
        recorder.finish().await.unwrap();
        told
    };
    let reason = DisconnectReason::closed(Some(1001), "deploy");
    assert!(matches!(&told, Gap::Reconnected { reason: r, .. } if *r == reason), "{told:?}");
    let manager = replaying(Replay::open(file.path()).unwrap(), config());
    assert_eq!(all(subscribed(&manager, "x")).await[0], Got::Gap(told));
}
