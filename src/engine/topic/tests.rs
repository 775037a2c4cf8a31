//! What readers get, against a naive model and case by case.

mod facts;

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::{ArcWake, waker};
use metrics_util::debugging::DebuggingRecorder;
use proptest::prelude::*;

use super::ring::MAX_NOTICES;
use super::*;
use crate::config::Config;
use crate::error::CloseReason;
use crate::message::Message;
use crate::protocol::{DisconnectReason, Mark};

const FROM: ConnectionId = ConnectionId::nth(1);

#[derive(Clone, Debug)]
enum Op {
    Publish(Vec<usize>),
    Break,
    Rejoin,
    Skip(Option<u64>),
    Join,
    Leave(usize),
    Read { reader: usize, most: usize },
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let skip = prop_oneof![Just(None), (1..9_u64).prop_map(Some)];
    prop_oneof![
        6 => proptest::collection::vec(1..12_usize, 1..6).prop_map(Op::Publish),
        2 => Just(Op::Break),
        3 => Just(Op::Rejoin),
        1 => skip.prop_map(Op::Skip),
        2 => Just(Op::Join),
        1 => any::<usize>().prop_map(Op::Leave),
        6 => (any::<usize>(), 1..9_usize).prop_map(|(reader, most)| Op::Read { reader, most }),
    ]
}

/// What a reader that never lagged would get.
#[derive(Clone, Debug, PartialEq)]
enum Owed {
    Message(u64),
    Gap(Gap),
    End,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl ArcWake for Wakes {
    fn wake_by_ref(wakes: &Arc<Self>) {
        wakes.0.fetch_add(1, Relaxed);
    }
}

struct Reading {
    /// Whether it was there before the break that is not mended yet.
    in_break: bool,
    lagged: bool,
    owed: VecDeque<Owed>,
    /// How often it had been woken when it found nothing.
    parked: Option<usize>,
    reader: Reader,
    /// The message that it has to get before all others.
    replay: Option<u64>,
    /// Gaps told since the last message.
    told: usize,
    wakes: Arc<Wakes>,
}

fn settings(buffer: usize, buffer_bytes: usize) -> StreamConfig {
    Config::default().buffer(buffer).buffer_bytes(buffer_bytes).stream()
}

fn parcel(messages: impl IntoIterator<Item = Message>) -> Parcel {
    messages.into_iter().map(|message| (message, Mark::default())).collect()
}

struct Model {
    broken: Option<Instant>,
    closed: bool,
    /// Whether so many notices are unread that some may have been merged.
    crowded: bool,
    now: Instant,
    /// When the last message was published.
    published: Option<Instant>,
    readers: Vec<Reading>,
    sizes: Vec<usize>,
    topic: Arc<Topic>,
}

impl Model {
    fn new(settings: StreamConfig) -> Self {
        let name = StreamName::try_from("x").unwrap();
        Self {
            broken: None,
            closed: false,
            crowded: false,
            now: Instant::now(),
            published: None,
            readers: Vec::new(),
            sizes: Vec::new(),
            topic: Arc::new(Topic::new(name, FROM, settings, Arc::default())),
        }
    }

    fn apply(&mut self, op: Op) {
        self.now += Duration::from_secs(1);
        match op {
            Op::Publish(sizes) if !self.closed => self.publish(&sizes),
            Op::Break if !self.closed => self.break_off(),
            Op::Rejoin if !self.closed => self.rejoin(),
            Op::Skip(missed) if !self.closed => {
                self.topic.missing(FROM, Gap::Sequence { missed }, self.now);
                self.owe(&Owed::Gap(Gap::Sequence { missed }), |_| true);
            }
            Op::Join => self.join(),
            Op::Leave(reader) if !self.readers.is_empty() => {
                let at = reader % self.readers.len();
                drop(self.readers.swap_remove(at));
            }
            Op::Read { reader, most } if !self.readers.is_empty() => {
                let at = reader % self.readers.len();
                (0..most).for_each(|_| _ = self.read(at));
            }
            Op::Close if !self.closed => {
                self.closed = true;
                self.topic.close(CloseReason::Shutdown);
                self.topic.close(CloseReason::Aborted); // The first reason stands.
                self.owe(&Owed::End, |_| true);
            }
            _ => {}
        }
        self.check_bounds();
    }

    fn publish(&mut self, sizes: &[usize]) {
        let text = |(seq, size): (usize, &usize)| format!("{seq:>size$}");
        let texts: Vec<_> = (self.sizes.len()..).zip(sizes).map(text).collect();
        let messages = texts.iter().map(|text| Message::from(&**text));
        let mut woken = Woken::new();
        self.topic.publish(FROM, parcel(messages), self.now, &mut woken);
        self.published = Some(self.now);
        assert!(woken.is_empty());
        for text in texts {
            self.owe(&Owed::Message(self.sizes.len() as u64), |_| true);
            self.sizes.push(text.len());
        }
    }

    fn break_off(&mut self) {
        let reason = DisconnectReason::Ended;
        self.topic.break_off(FROM, self.now, reason, self.now);
        if self.broken.is_none() {
            self.broken = Some(self.now);
            self.readers.iter_mut().for_each(|reading| reading.in_break = true);
        }
    }

    fn rejoin(&mut self) {
        self.topic.joined(FROM, self.now, 1);
        if let Some(since) = self.broken.take() {
            let down_for = self.now - since;
            let gap = Gap::Reconnected { down_for, reason: DisconnectReason::Ended };
            self.owe(&Owed::Gap(gap), |reading| reading.in_break);
        }
        self.readers.iter_mut().for_each(|reading| reading.in_break = false);
    }

    fn join(&mut self) {
        let replays = self.topic.settings.replay_latest;
        let owed = self.closed.then_some(Owed::End).into_iter().collect();
        self.readers.push(Reading {
            in_break: false,
            lagged: false,
            owed,
            parked: None,
            reader: self.topic.read(),
            replay: self.sizes.len().checked_sub(1).map(|seq| seq as u64).filter(|_| replays),
            told: 0,
            wakes: Arc::default(),
        });
    }

    fn owe(&mut self, owed: &Owed, to: impl Fn(&Reading) -> bool) {
        for reading in self.readers.iter_mut().filter(|reading| to(reading)) {
            reading.owed.push_back(owed.clone());
            if let Some(before) = reading.parked.take() {
                let woken = reading.wakes.0.load(Relaxed) - before;
                assert_eq!(woken, 1, "woken once by what it waited for");
            }
        }
    }

    /// Where a ring begins that holds as much of what was published as it may.
    fn window(&self) -> u64 {
        let settings = &self.topic.settings;
        let mut bytes = 0;
        let fits = |size: &&usize| {
            bytes += **size;
            bytes <= settings.buffer_bytes
        };
        let kept = self.sizes.iter().rev().take(settings.buffer).take_while(fits).count();
        (self.sizes.len() - kept.max(1).min(self.sizes.len())) as u64
    }

    /// Reads the message that comes before all others, if one is owed.
    fn read_replay(&mut self, at: usize) -> bool {
        let reading = &mut self.readers[at];
        let Some(owed) = reading.replay.take() else { return false };
        let lag = reading.reader.lag();
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        let next = reading.reader.poll_next(&mut cx);
        assert!(matches!(next, Poll::Ready(Some(Next::Message))), "{next:?} for {owed}");
        assert!(!reading.reader.is_replayed(), "it is not yielded yet");
        reading.reader.take(|entry| {
            assert!(entry.is_replayed());
            assert_eq!((entry.seq(), text(entry)), (owed, owed.to_string()));
        });
        assert!(reading.reader.is_replayed());
        assert_eq!(reading.reader.lag(), lag, "it came before the reader did");
        true
    }

    /// Reads one item, and says whether there was one.
    fn read(&mut self, at: usize) -> bool {
        if self.read_replay(at) {
            return true;
        }
        let window = self.window();
        let crowded = self.crowded;
        let reading = &mut self.readers[at];
        let held = reading.reader.walk.batch.as_ref().map(|batch| batch.end());
        let holds = held.is_some_and(|end| reading.reader.walk.cursor < end);
        assert_eq!(reading.reader.lag(), self.sizes.len() as u64 - reading.reader.walk.cursor);
        let waker = waker(Arc::clone(&reading.wakes));
        match reading.reader.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                reading.settle(crowded);
                assert!(reading.owed.is_empty(), "{:?}", reading.owed);
                reading.parked = Some(reading.wakes.0.load(Relaxed));
                return false;
            }
            Poll::Ready(None) => {
                assert!(self.closed && reading.owed.is_empty() && reading.reader.is_ended());
                return false;
            }
            Poll::Ready(Some(Next::Message)) => {
                let message = |entry: &Entry<'_>| {
                    assert_eq!(text(entry), entry.seq().to_string());
                    assert!(!entry.is_replayed());
                    entry.seq()
                };
                let seq = reading.reader.take(message).unwrap();
                assert!(!reading.reader.is_replayed());
                reading.message(seq, crowded);
                assert!(holds || crowded || seq >= window, "{seq} is out of the ring");
            }
            Poll::Ready(Some(Next::Gap(gap))) => match *gap {
                Gap::Lagged { missed } => {
                    assert!(!holds, "a batch in hand is not lost");
                    let first = reading.lag(missed, crowded);
                    assert!(first == window || crowded, "{first} is not the oldest: {window}");
                }
                gap => {
                    assert!(!reading.reader.is_replayed());
                    reading.gap(&gap, crowded);
                }
            },
            Poll::Ready(Some(Next::Closed(reason))) => {
                reading.settle(crowded);
                assert!(matches!(*reason, CloseReason::Shutdown));
                assert_eq!(reading.owed.pop_front(), Some(Owed::End));
                assert!(reading.owed.is_empty());
            }
        }
        true
    }

    fn check_bounds(&self) {
        let ring = self.topic.ring.lock();
        let settings = &self.topic.settings;
        let (first, next) = (ring.first as usize, ring.next as usize);
        assert_eq!(next, self.sizes.len());
        assert_eq!(ring.bytes, self.sizes[first..].iter().sum::<usize>());
        assert!(next - first <= settings.buffer);
        assert!(ring.bytes <= settings.buffer_bytes || next - first == 1);
        assert!(ring.notices.len() <= MAX_NOTICES);
        assert!(ring.notices.iter().is_sorted_by_key(|notice| notice.at));
        let kept = ring.batches.iter().map(|batch| batch.messages.len()).sum::<usize>();
        let before = ring.batches.front().map_or(0, |batch| ring.first - batch.first);
        assert_eq!(kept as u64 - before, ring.next - ring.first);
        assert_eq!(ring.readers.len(), self.readers.len());
        if self.readers.is_empty() {
            assert!(ring.batches.is_empty() && ring.notices.is_empty());
        }
        assert!(ring.kept.is_none() || ring.batches.is_empty(), "the latest is kept twice");
        drop(ring);
        let latest = self.topic.latest(|entry| (text(entry), entry.seq(), entry.received_at()));
        let seq = self.sizes.len().checked_sub(1);
        let published = seq.zip(self.published);
        assert_eq!(latest, published.map(|(seq, at)| (seq.to_string(), seq as u64, at)));
    }

    fn read_all(&mut self) {
        for at in 0..self.readers.len() {
            while self.read(at) {}
            assert!(self.readers[at].owed.is_empty());
        }
    }
}

impl Reading {
    fn message(&mut self, seq: u64, crowded: bool) {
        self.settle(crowded);
        assert_eq!(self.owed.pop_front(), Some(Owed::Message(seq)));
        (self.told, self.lagged) = (0, false);
    }

    /// Steps over what was lost; the gaps in it stay owed. Returns the next position.
    fn lag(&mut self, missed: u64, crowded: bool) -> u64 {
        assert!(missed > 0);
        if self.told > 0 {
            self.settle(crowded);
        }
        let mut gaps = VecDeque::new();
        let mut last = 0;
        let mut left = missed;
        while left > 0 {
            match self.owed.pop_front() {
                Some(Owed::Message(seq)) => (last, left) = (seq, left - 1),
                Some(gap @ Owed::Gap(_)) => gaps.push_back(gap),
                other => panic!("{missed} missed, and {left} of them are {other:?}"),
            }
        }
        gaps.append(&mut self.owed);
        (self.owed, self.told, self.lagged) = (gaps, 0, true);
        last + 1
    }

    /// The gaps that stand before the next message.
    fn due(&self) -> Vec<Gap> {
        let gap = |owed: &Owed| match owed {
            Owed::Gap(gap) => Some(gap.clone()),
            Owed::Message(_) | Owed::End => None,
        };
        self.owed.iter().map_while(gap).collect()
    }

    fn gap(&mut self, told: &Gap, crowded: bool) {
        let due = self.due();
        assert!(!due.is_empty(), "{told:?} is not owed");
        self.told += 1;
        let covers = if self.lagged && !crowded { due.len() } else { 1 };
        self.owed.drain(..covers);
        self.lagged = false;
        assert!(crowded || *told == sum(&due[..covers]), "{told:?} for {due:?}");
    }

    /// No gap is owed any more, or it was merged into one that was told.
    fn settle(&mut self, crowded: bool) {
        let due = self.due().len();
        if crowded && self.told > 0 {
            self.owed.drain(..due);
            return;
        }
        assert_eq!(due, 0, "a gap was lost: {:?}", self.owed);
    }
}

/// The text of a message, which is its position.
fn text(entry: &Entry<'_>) -> String {
    entry.message().as_text().unwrap().trim().to_owned()
}

fn sum(gaps: &[Gap]) -> Gap {
    let down = |gap: &Gap| match gap {
        Gap::Reconnected { down_for, .. } => Some(*down_for),
        _ => None,
    };
    let missed = |gap: &Gap| match gap {
        Gap::Sequence { missed } => *missed,
        _ => None,
    };
    if gaps.iter().any(|gap| down(gap).is_some()) {
        let down_for = gaps.iter().filter_map(down).sum();
        return Gap::Reconnected { down_for, reason: DisconnectReason::Ended };
    }
    Gap::Sequence { missed: gaps.iter().map(missed).sum() }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn readers_get_everything_or_a_gap_in_its_place(
        buffer in 1..9_usize,
        buffer_bytes in 1..60_usize,
        ops in proptest::collection::vec(op(), 0..60), // Too few for notices to be merged.
        closes in any::<bool>(),
        replays in any::<bool>(),
    ) {
        let mut model = Model::new(StreamConfig { replay_latest: replays, ..settings(buffer, buffer_bytes) });
        model.apply(Op::Join);
        ops.into_iter().for_each(|op| model.apply(op));
        if closes {
            model.apply(Op::Close);
            model.apply(Op::Join);
        }
        model.read_all();
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn no_gap_is_lost_where_there_are_too_many(
        buffer in 1..200_usize,
        ops in proptest::collection::vec(op(), 300..600),
        breaks in 1..200_usize,
        replays in any::<bool>(),
    ) {
        let mut model = Model::new(StreamConfig { replay_latest: replays, ..settings(buffer, usize::MAX) });
        model.crowded = true;
        model.apply(Op::Join);
        let is_read = |op: &Op| matches!(op, Op::Read { .. } | Op::Leave(_));
        for (i, op) in ops.into_iter().enumerate() {
            if i % breaks == 0 {
                (0..70).for_each(|_| model.apply(Op::Skip(Some(1))));
            }
            if !is_read(&op) || i % 3 == 0 {
                model.apply(op);
            }
        }
        model.apply(Op::Close);
        model.read_all();
    }
}

#[test]
fn a_thousand_breaks_unread_cost_little_and_lose_none() {
    let mut model = Model::new(settings(4, usize::MAX));
    model.apply(Op::Join);
    for _ in 0..1000 {
        [Op::Break, Op::Rejoin].into_iter().for_each(|op| model.apply(op));
    }
    let reader = &mut model.readers[0].reader;
    let mut told = Duration::ZERO;
    let mut gaps = 0;
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    while let Poll::Ready(next) = reader.poll_next(&mut cx) {
        let Some(Next::Gap(gap)) = next else { panic!() };
        let Gap::Reconnected { down_for, .. } = *gap else { panic!("{gap:?}") };
        told += down_for;
        gaps += 1;
    }
    assert_eq!((gaps, told), (MAX_NOTICES, Duration::from_secs(1000)));
    assert_eq!(model.topic.look().facts.gaps, 1000);
}

#[test]
fn a_merged_notice_is_not_told_to_a_reader_that_came_after_both() {
    let mut model = Model::new(settings(4, usize::MAX));
    model.apply(Op::Join);
    model.apply(Op::Skip(None));
    model.apply(Op::Break);
    model.apply(Op::Join); // While the stream is down: nothing has been missed yet.
    model.apply(Op::Rejoin);
    (0..MAX_NOTICES - 1).for_each(|_| model.apply(Op::Skip(Some(1))));
    let late = &mut model.readers[1];
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    for _ in 0..MAX_NOTICES - 1 {
        let next = late.reader.poll_next(&mut cx);
        let skipped = Next::Gap(Box::new(Gap::Sequence { missed: Some(1) }));
        assert_eq!(format!("{next:?}"), format!("{:?}", Poll::Ready(Some(skipped))));
    }
    assert!(late.reader.poll_next(&mut cx).is_pending());
}

#[test]
fn a_small_message_that_is_kept_holds_no_read_buffer_and_a_large_one_is_not_copied() {
    for (size, copied) in [(1, true), (1024, true), (1025, false), (16_000, false)] {
        let topic = Model::new(settings(4, usize::MAX)).topic;
        let reader = topic.read();
        let buffer = bytes::Bytes::from(vec![b'x'; 1 << 14]);
        let slice = || buffer.slice(..size);
        let texts = [Message::Binary(slice()), Message::Text(slice().try_into().unwrap())];
        for message in texts {
            topic.publish(FROM, parcel([message.clone()]), Instant::now(), &mut Woken::new());
            assert!(topic.ring.lock().kept.is_none(), "it is in the ring");
        }
        drop(reader);
        let latest = topic.latest(|entry| entry.to_message()).unwrap();
        assert_eq!(latest.as_bytes(), slice());
        assert!(latest.as_text().is_some(), "as it came");
        let is_slice = latest.as_bytes().as_ptr() == buffer.as_ptr();
        assert_eq!(is_slice, !copied, "{size}");
    }
}

#[test]
fn what_is_there_can_be_taken_without_being_woken_later() {
    let mut model = Model::new(settings(9, usize::MAX));
    model.apply(Op::Join);
    let Reading { reader, wakes, .. } = &mut model.readers[0];
    let waker = waker(Arc::clone(wakes));
    let mut cx = Context::from_waker(&waker);
    assert!(reader.next_now(&mut cx).is_none());
    for batch in [1, 2] {
        let messages = parcel(vec!["m".into(); batch]);
        model.topic.publish(FROM, messages, model.now, &mut Woken::new());
    }
    for _ in 0..3 {
        assert!(matches!(reader.next_now(&mut cx), Some(Next::Message)));
        reader.take(|_| ()).unwrap();
    }
    assert!(reader.next_now(&mut cx).is_none());
    model.topic.close(CloseReason::Shutdown);
    assert!(matches!(reader.next_now(&mut cx), Some(Next::Closed(_))));
    assert!(reader.next_now(&mut cx).is_none());
    assert_eq!(wakes.0.load(Relaxed), 0);
}

#[test]
fn a_recorder_is_told_of_messages_only_where_there_are_any() {
    let recorder = DebuggingRecorder::new();
    let told = || {
        let all = recorder.snapshotter().snapshot().into_vec();
        all.iter().any(|(key, ..)| key.key().name() == "ws_manager_messages_total")
    };
    let topic = Model::new(settings(4, usize::MAX)).topic;
    metrics::with_local_recorder(&recorder, || {
        topic.joined(FROM, Instant::now(), 1);
        topic.missed(1);
        assert!(!told());
        topic.brought(vec!["m".into()]);
        assert!(told());
    });
}

#[test]
fn there_is_room_for_what_fits_beside_what_readers_have_yet_to_take() {
    let name = StreamName::try_from("x").unwrap();
    let settings = Config::default().buffer(4).buffer_bytes(10).stream();
    let topic = Arc::new(Topic::new(name, FROM, settings, Arc::default()));
    assert!(topic.has_room(99, 99), "nobody reads");

    let mut reader = topic.read();
    for (messages, bytes, fits) in
        [(4, 10, true), (5, 5, false), (4, 11, false), (1, 11, true), (2, 11, false)]
    {
        assert_eq!(topic.has_room(messages, bytes), fits, "{messages} of {bytes} bytes");
    }
    topic.brought(vec![Message::from("12".to_owned())]);
    for (messages, bytes, fits) in [(3, 8, true), (4, 4, false), (3, 9, false), (1, 11, false)] {
        assert_eq!(topic.has_room(messages, bytes), fits, "{messages} of {bytes} bytes");
    }
    topic.brought(vec![Message::from("34".to_owned()), Message::from("56".to_owned())]);
    for (messages, bytes, fits) in [(1, 4, true), (1, 5, false), (2, 1, false)] {
        assert_eq!(topic.has_room(messages, bytes), fits, "{messages} of {bytes} bytes");
    }
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    while reader.poll_next(&mut cx).is_ready() {
        reader.take(|_| ());
    }
    assert!(topic.has_room(4, 10), "all is taken");
}
