//! What readers get of a topic that is handed over, against the feed itself.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use futures::task::{ArcWake, waker};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::config::Config;
use crate::engine::defect::{Defect, with};
use crate::engine::topic::{Moved, Next, Reader, Reviewed, Role, Topic};
use crate::error::Gap;
use crate::name::StreamName;
use crate::protocol::DisconnectReason;

const OLD: ConnectionId = ConnectionId::nth(1);
const NEW: ConnectionId = ConnectionId::nth(2);
const STRANGER: ConnectionId = ConnectionId::nth(3);
const TIMEOUT: Duration = Duration::from_secs(10);
const RTT: Duration = Duration::from_millis(1);
const ALIGNED: Reviewed = Reviewed::Moved(Moved::Aligned);
const BUFFER: usize = 4096;
/// So many kinds of values that none comes twice.
const NUMBERED: u64 = u64::MAX;

/// A topic with a reader, and the clock.
struct Stage {
    now: Instant,
    reader: Reader,
    topic: Arc<Topic>,
}

/// What the reader got.
#[derive(Debug, Eq, PartialEq)]
enum Got {
    Gap(Gap),
    Value(u64),
}

impl Stage {
    /// The old source has joined, and the topic is being handed over.
    fn new() -> Self {
        Self::with_buffer(BUFFER)
    }

    fn with_buffer(messages: usize) -> Self {
        let name = StreamName::try_from("x").unwrap();
        let settings = Config::default().buffer(messages).stream();
        let topic = Arc::new(Topic::new(name, OLD, settings, Arc::default()));
        let stage = Self { now: Instant::now(), reader: topic.read(), topic };
        stage.topic.joined(OLD, stage.now, 1);
        stage.topic.hand_over(NEW, stage.now);
        stage
    }

    fn joins(&mut self) {
        assert_eq!(self.topic.joined(NEW, self.now, 1), Role::Next);
    }

    fn joins_as_source(&mut self) {
        assert_eq!(self.topic.joined(NEW, self.now, 1), Role::Source(None));
    }

    fn brings(&mut self, from: ConnectionId, values: impl IntoIterator<Item = u64>) -> bool {
        self.brings_marked(from, values, |_| Mark::default())
    }

    fn brings_marked(
        &mut self,
        from: ConnectionId,
        values: impl IntoIterator<Item = u64>,
        mark: impl Fn(u64) -> Mark,
    ) -> bool {
        let items = values.into_iter().map(|value| (value.to_string().into(), mark(value)));
        self.topic
            .publish(from, items.collect(), self.now, &mut super::super::Woken::new())
            .is_some()
    }

    fn loses(&mut self, from: ConnectionId) -> bool {
        self.topic.break_off(from, self.now, DisconnectReason::Ended, self.now).is_some()
    }

    fn passes(&mut self, time: Duration) -> Reviewed {
        self.now += time;
        self.topic.review(NEW, self.now, TIMEOUT)
    }

    /// The old socket's peer answers a ping of just now: after whatever happened.
    fn old_answers(&mut self) -> Option<Moved> {
        self.now += RTT;
        let asked_at = self.now;
        self.now += RTT;
        self.topic.answered(OLD, asked_at, self.now, TIMEOUT)
    }

    /// What there is to read.
    fn reads(&mut self) -> Vec<Got> {
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        let mut got = Vec::new();
        while let Poll::Ready(Some(next)) = self.reader.poll_next(&mut cx) {
            got.push(match next {
                Next::Gap(gap) => Got::Gap(*gap),
                Next::Message => {
                    let value =
                        self.reader.take(|entry| entry.message().as_text().unwrap().parse());
                    Got::Value(value.unwrap().unwrap())
                }
                Next::Closed(reason) => panic!("{reason}"),
            });
        }
        got
    }

    fn reads_values(&mut self) -> Vec<u64> {
        let value = |got| match got {
            Got::Value(value) => value,
            Got::Gap(gap) => panic!("{gap:?}"),
        };
        self.reads().into_iter().map(value).collect()
    }

    fn source(&self) -> ConnectionId {
        if self.topic.is_source(NEW) { NEW } else { OLD }
    }
}

/// A waker, and how often it was woken.
fn counting_waker() -> (Waker, Arc<AtomicUsize>) {
    struct Wakes(Arc<AtomicUsize>);
    impl ArcWake for Wakes {
        fn wake_by_ref(wakes: &Arc<Self>) {
            wakes.0.fetch_add(1, Relaxed);
        }
    }
    let wakes = Arc::new(AtomicUsize::new(0));
    (waker(Arc::new(Wakes(Arc::clone(&wakes)))), wakes)
}

fn gap(reason: DisconnectReason) -> Got {
    Got::Gap(Gap::Reconnected { down_for: Duration::ZERO, reason })
}

fn values(range: std::ops::Range<u64>) -> Vec<Got> {
    range.map(Got::Value).collect()
}

#[test]
fn a_stream_goes_over_once_enough_is_equal_and_each_message_comes_once() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..20);
    stage.joins();
    assert!(!stage.brings(NEW, 10..30));
    assert!(!stage.brings(OLD, 20..42), "twenty are not enough yet");
    assert!(stage.brings(NEW, 30..45), "one that is held and not delivered is delivered");
    assert_eq!(stage.source(), NEW);
    assert!(!stage.brings(OLD, 42..50), "what the old socket still brings is nobody's");
    stage.brings(NEW, 45..50);
    assert_eq!(stage.reads_values(), (0..50).collect::<Vec<_>>());
}

#[test]
fn what_a_slower_next_source_brings_again_is_passed_over() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..100);
    stage.joins();
    assert!(stage.brings(NEW, 10..50), "it is behind, and known to be");
    assert!(!stage.brings(OLD, 100..110), "it is the source no more");
    stage.brings(NEW, 50..99);
    stage.brings(NEW, 99..120);
    assert_eq!(stage.reads_values(), (0..120).collect::<Vec<_>>());
}

#[test]
fn once_the_next_source_has_caught_up_nothing_is_left_of_the_handover() {
    let unmarked = |_| Mark::default();
    let numbered = |seq| Mark::default().seq(seq);
    for mark in [unmarked, numbered] {
        let mut stage = Stage::new();
        stage.brings_marked(OLD, 0..100, mark);
        stage.joins();
        assert!(stage.brings_marked(NEW, 10..50, mark));
        stage.brings_marked(NEW, 50..99, mark);
        assert!(stage.topic.ring.lock().ahead.is_some(), "it has yet to bring one again");
        stage.brings_marked(NEW, 99..120, mark);
        let ring = stage.topic.ring.lock();
        assert!(ring.ahead.is_none() && ring.handover.is_none());
    }
}

#[test]
fn what_a_stranger_says_during_a_handover_is_nobodys() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..20);
    stage.joins();
    stage.brings(NEW, 10..20);
    assert_eq!(stage.topic.joined(STRANGER, stage.now, 1), Role::Stranger);
    assert!(!stage.topic.is_next(STRANGER) && !stage.topic.is_source(STRANGER));
    assert!(!stage.brings(STRANGER, 100..200));
    stage.topic.missing(STRANGER, Gap::Sequence { missed: None }, stage.now);
    assert!(!stage.loses(STRANGER));
    stage.brings(OLD, 20..42);
    assert!(stage.brings(NEW, 20..42), "what it held is still there");
    assert_eq!(stage.reads_values(), (0..42).collect::<Vec<_>>());
}

#[test]
fn a_next_source_that_begins_with_what_was_before_the_handover_repeats_nothing() {
    let mut stage = Stage::new();
    stage.brings(OLD, 50..100);
    stage.joins();
    assert!(stage.brings(NEW, 20..101));
    assert_eq!(stage.reads_values(), (50..101).collect::<Vec<_>>());
}

#[test]
fn values_that_repeat_are_not_taken_for_each_other() {
    let mut stage = Stage::new();
    stage.brings(OLD, [7; 20]);
    stage.joins();
    assert!(!stage.brings(NEW, [7; 60]), "which of them is it?");
    assert!(!stage.brings(OLD, [7; 60]));
    assert_eq!(stage.reads_values(), [7; 80]);
    assert_eq!(stage.old_answers(), None, "there may be more on the way to either");
    assert_eq!(stage.passes(SETTLED), ALIGNED, "now both have brought the same");
    assert_eq!(stage.source(), NEW);
    stage.brings(NEW, [7; 3]);
    assert_eq!(stage.reads_values(), [7; 3]);
}

#[test]
fn a_silent_stream_goes_over_at_the_deadline_and_nobody_is_told() {
    let mut stage = Stage::new();
    stage.joins();
    assert!(stage.topic.wants_word(OLD));
    assert_eq!(stage.old_answers(), None);
    assert!(!stage.topic.wants_word(OLD), "it has it");
    let left = TIMEOUT / 2 - 2 * RTT;
    assert_eq!(stage.passes(TIMEOUT / 2), Reviewed::Again(stage.now + SETTLED));
    assert_eq!(stage.passes(left), ALIGNED);
    assert_eq!(stage.reads(), []);
}

#[test]
fn a_silent_stream_whose_old_socket_may_be_dead_goes_over_with_a_gap() {
    let torn = Reviewed::Moved(Moved::Torn);
    let mut stage = Stage::new();
    stage.joins();
    assert_eq!(stage.passes(TIMEOUT), torn, "nobody has answered");
    assert_eq!(stage.reads(), [gap(DisconnectReason::Rotated)]);

    let mut stage = Stage::new();
    let asked_at = stage.now;
    stage.joins();
    stage.now += RTT;
    assert_eq!(stage.topic.answered(OLD, asked_at, stage.now, TIMEOUT), None);
    assert!(stage.topic.wants_word(OLD), "that one was made before the join");
    assert_eq!(stage.topic.answered(NEW, stage.now, stage.now, TIMEOUT), None, "not the source");
    assert_eq!(stage.passes(TIMEOUT), torn);
    assert_eq!(stage.reads(), [gap(DisconnectReason::Rotated)]);

    let mut stage = Stage::new();
    stage.joins();
    assert_eq!(with(Some(Defect::SilenceIsTrusted), || stage.passes(TIMEOUT)), ALIGNED);
    assert_eq!(stage.reads(), [], "so it was");
}

#[test]
fn an_answer_proves_nothing_about_what_comes_after_its_ping() {
    let mut stage = Stage::new();
    stage.brings(OLD, [1, 2]);
    stage.joins();
    stage.brings(OLD, [1]);
    assert!(!stage.topic.wants_word(OLD), "the new socket has yet to bring something");
    assert_eq!(stage.old_answers(), None);
    stage.brings(NEW, [1]); // Is it the one that the old socket brought, or the next?
    assert!(stage.topic.wants_word(OLD));
    assert_eq!(stage.passes(SETTLED), Reviewed::Again(stage.now + SETTLED));
    assert_eq!(stage.old_answers(), Some(Moved::Aligned), "it is that one");
    assert_eq!(stage.reads_values(), [1, 2, 1]);
}

#[test]
fn a_handover_whose_next_source_has_not_joined_is_looked_at_again() {
    let mut stage = Stage::new();
    assert_eq!(stage.passes(TIMEOUT), Reviewed::Again(stage.now + TIMEOUT));
}

#[test]
fn where_there_is_little_time_half_of_it_is_enough_to_be_silent_for() {
    let mut stage = Stage::new();
    stage.joins();
    stage.brings(OLD, 0..3);
    stage.brings(NEW, 0..3);
    let settled_at = stage.now + SETTLED / 4;
    let asked_at = stage.now + Duration::from_millis(1);
    assert_eq!(stage.topic.answered(OLD, asked_at, asked_at, SETTLED / 2), None);
    assert_eq!(stage.topic.review(NEW, settled_at, SETTLED / 2), ALIGNED);
    assert_eq!(stage.reads_values(), [0, 1, 2]);
}

#[test]
fn what_came_in_the_last_moment_does_not_tell_that_both_have_brought_the_same() {
    let mut stage = Stage::new();
    stage.joins();
    let deadline = stage.now + TIMEOUT;
    stage.passes(TIMEOUT - SETTLED / 2);
    stage.brings(OLD, [7]);
    stage.brings(NEW, [7]);
    assert_eq!(stage.old_answers(), None);
    assert_eq!(stage.passes(deadline - stage.now), Reviewed::Moved(Moved::Torn));
    let expected = [Got::Value(7), gap(DisconnectReason::Rotated), Got::Value(7)];
    assert_eq!(stage.reads(), expected);
}

#[test]
fn a_slow_stream_goes_over_as_soon_as_both_have_brought_the_same() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    stage.joins();
    stage.brings(NEW, 3..4);
    assert_eq!(stage.passes(SETTLED), Reviewed::Again(stage.now + SETTLED));
    stage.brings(OLD, 3..4);
    let again = stage.now + SETTLED;
    assert_eq!(stage.passes(Duration::ZERO), Reviewed::Again(again));
    assert_eq!(stage.old_answers(), None, "it may be on its way");
    assert_eq!(stage.passes(SETTLED), ALIGNED);
    assert_eq!(stage.reads_values(), (0..4).collect::<Vec<_>>());
}

#[test]
fn a_source_that_says_nothing_any_more_is_not_taken_for_one_that_has_nothing_to_say() {
    let mut stage = Stage::new();
    stage.brings(OLD, [1, 2, 1]);
    stage.joins();
    stage.brings(NEW, [1]);
    assert_eq!(stage.passes(SETTLED), Reviewed::Again(stage.now + SETTLED));
    let moved = stage.passes(TIMEOUT - SETTLED);
    assert_eq!(moved, Reviewed::Moved(Moved::Torn), "is it the first, the last, or another?");
    let expected = [1, 2, 1].map(Got::Value).into_iter();
    let expected = expected.chain([gap(DisconnectReason::Rotated), Got::Value(1)]);
    assert_eq!(stage.reads(), expected.collect::<Vec<_>>());

    let mut stage = Stage::new();
    stage.brings(OLD, [1, 2, 1]);
    stage.joins();
    stage.brings(NEW, [1]);
    assert_eq!(stage.old_answers(), None);
    let moved = stage.passes(TIMEOUT);
    assert_eq!(moved, Reviewed::Moved(Moved::Torn), "it lives, but which of them is it?");

    let mut stage = Stage::new();
    stage.brings(OLD, [1, 2, 3]);
    stage.joins();
    stage.brings(NEW, [2, 3]);
    assert_eq!(stage.old_answers(), None);
    assert_eq!(stage.passes(TIMEOUT), ALIGNED, "these are the only ones");
    assert_eq!(stage.reads_values(), [1, 2, 3]);
}

#[test]
fn a_source_whose_task_is_cut_off_leaves_the_stream_to_the_next_one_behind_a_gap() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    stage.joins();
    stage.brings(NEW, 5..7);
    stage.topic.leave_to(NEW, stage.now);
    let expected = [values(0..3), vec![gap(DisconnectReason::Rotated)], values(5..7)].concat_all();
    assert_eq!(stage.reads(), expected);

    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    stage.topic.leave_to(NEW, stage.now);
    stage.now += Duration::from_secs(2);
    stage.joins_as_source();
    stage.brings(NEW, 5..7);
    let down_for = Duration::from_secs(2);
    let told = Got::Gap(Gap::Reconnected { down_for, reason: DisconnectReason::Rotated });
    assert_eq!(stage.reads(), [values(0..3), vec![told], values(5..7)].concat_all());
}

#[test]
fn nothing_is_told_where_a_stream_is_left_to_its_source_or_before_anybody_joined_it() {
    let mut stage = Stage::new();
    stage.topic.leave_to(NEW, stage.now);
    stage.joins_as_source();
    stage.reads();
    stage.topic.leave_to(NEW, stage.now);
    stage.joins_as_source();
    assert_eq!(stage.reads(), []);

    let name = StreamName::try_from("x").unwrap();
    let topic = Arc::new(Topic::new(name, OLD, Config::default().stream(), Arc::default()));
    let mut stage = Stage { now: Instant::now(), reader: topic.read(), topic };
    stage.topic.hand_over(NEW, stage.now);
    stage.topic.leave_to(NEW, stage.now);
    stage.joins_as_source();
    assert_eq!(stage.reads(), []);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut handover = Handover::new(NEW, None, Instant::now());
    let message = || (Message::from("x".to_owned()), Mark::default());
    for count in [MAX_RECORD - 1, 1, 1, 5] {
        let parcel = std::iter::repeat_with(message).take(count).collect();
        handover.deliver(&parcel, Instant::now());
        assert!(handover.delivered.len() <= MAX_RECORD);
    }
    assert_eq!(handover.delivered.len(), MAX_RECORD);
}

#[test]
fn there_is_room_for_fewer_bytes_than_a_stream_keeps() {
    let settings = Config::default().buffer_bytes(10).stream();
    let mut handover = Handover::new(NEW, None, Instant::now());
    let mut holds = |text: &str| {
        let parcel = std::iter::once((text.to_owned().into(), Mark::default())).collect();
        handover.hold(parcel, &settings, Instant::now())
    };
    assert!(holds("12345"));
    assert!(holds("1234"));
    assert!(!holds("1"));
}

#[test]
fn what_cannot_be_aligned_comes_after_a_gap() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    stage.joins();
    stage.brings(NEW, 5..9);
    assert_eq!(stage.passes(TIMEOUT), Reviewed::Moved(Moved::Torn));
    let expected = [values(0..3), vec![gap(DisconnectReason::Rotated)], values(5..9)].concat_all();
    assert_eq!(stage.reads(), expected);
}

#[test]
fn more_than_can_be_held_comes_after_a_gap() {
    let mut stage = Stage::with_buffer(100);
    stage.brings(OLD, 0..3);
    stage.joins();
    assert!(!stage.brings(NEW, 1000..1099));
    assert_eq!(stage.reads(), values(0..3));
    assert!(stage.brings(NEW, 1099..1100));
    let expected = [vec![gap(DisconnectReason::Rotated)], values(1000..1100)].concat_all();
    assert_eq!(stage.reads(), expected);
}

#[test]
fn where_no_more_can_be_held_as_many_equal_messages_are_enough_as_where_time_is_up() {
    for (begins, is_torn) in [(12, false), (13, true)] {
        let mut stage = Stage::with_buffer(100);
        stage.brings(OLD, 0..20);
        stage.joins();
        assert_eq!(stage.reads_values(), (0..20).collect::<Vec<_>>());
        assert!(!stage.brings(NEW, begins..begins + 99), "there may be more to come");
        assert!(stage.brings(NEW, begins + 99..begins + 100));
        let told = is_torn.then(|| gap(DisconnectReason::Rotated));
        let from = if is_torn { begins } else { 20 };
        let expected: Vec<_> = told.into_iter().chain(values(from..begins + 100)).collect();
        assert_eq!(stage.reads(), expected);
    }
}

#[test]
fn a_next_source_that_brings_nothing_is_not_gone_over_to() {
    let mut stage = Stage::new();
    stage.joins();
    stage.brings(OLD, 0..3);
    assert_eq!(stage.passes(TIMEOUT / 2), Reviewed::Again(stage.now + SETTLED));
    assert_eq!(stage.passes(TIMEOUT / 2), Reviewed::Mute);
    assert!(stage.topic.stay(NEW));
    stage.brings(OLD, 3..5);
    assert_eq!(stage.reads_values(), (0..5).collect::<Vec<_>>());
    assert_eq!(stage.passes(TIMEOUT), Reviewed::Over);
}

#[test]
fn a_source_that_is_lost_leaves_the_stream_to_the_next_one() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..20);
    stage.joins();
    stage.brings(NEW, 10..25);
    assert!(stage.loses(OLD), "ten are enough where there is no more to come");
    assert_eq!(stage.reads_values(), (0..25).collect::<Vec<_>>());

    let mut stage = Stage::new();
    stage.brings(OLD, 0..20);
    stage.joins();
    stage.brings(NEW, 21..25);
    assert!(stage.loses(OLD));
    let expected = [values(0..20), vec![gap(DisconnectReason::Ended)], values(21..25)].concat_all();
    assert_eq!(stage.reads(), expected);
}

#[test]
fn a_source_that_is_lost_before_the_next_one_has_joined_is_a_break_as_ever() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    assert!(!stage.loses(OLD));
    stage.now += Duration::from_secs(2);
    assert_eq!(stage.topic.joined(NEW, stage.now, 1), Role::Source(Some(Moved::Torn)));
    stage.brings(NEW, 5..6);
    let down_for = Duration::from_secs(2);
    let told = Got::Gap(Gap::Reconnected { down_for, reason: DisconnectReason::Ended });
    assert_eq!(stage.reads(), [values(0..3), vec![told], values(5..6)].concat_all());
    assert_eq!(stage.topic.joined(OLD, stage.now, 1), Role::Stranger);
}

#[test]
fn a_next_source_that_is_lost_takes_with_it_what_it_brought() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    stage.joins();
    stage.brings(NEW, 1..9);
    assert!(!stage.loses(NEW));
    stage.brings(OLD, 3..40);
    stage.joins();
    assert!(stage.brings(NEW, 5..50));
    assert_eq!(stage.reads_values(), (0..50).collect::<Vec<_>>());
}

#[test]
fn what_is_held_wakes_nobody() {
    let mut stage = Stage::new();
    stage.joins();
    let (waker, wakes) = counting_waker();
    assert!(stage.reader.poll_next(&mut Context::from_waker(&waker)).is_pending());
    stage.brings(NEW, [1]);
    assert_eq!(wakes.load(Relaxed), 0);
    stage.brings(OLD, [1]);
    assert_eq!(wakes.load(Relaxed), 1);
}

#[test]
fn a_next_source_that_is_lost_takes_nothing_over() {
    let mut stage = Stage::new();
    stage.joins();
    assert!(!stage.loses(NEW));
    assert!(!stage.loses(OLD));
    assert_eq!((stage.source(), stage.reads()), (OLD, vec![]));
}

#[test]
fn numbers_align_at_once_and_a_hole_between_them_is_told() {
    let numbered = |seq| Mark::default().seq(seq);
    for (new, got) in [(1..6, 6), (3..6, 6), (0..2, 3)] {
        let mut stage = Stage::new();
        stage.brings_marked(OLD, 0..3, numbered);
        stage.joins();
        assert!(stage.brings_marked(NEW, new, numbered));
        assert_eq!(stage.reads_values(), (0..got).collect::<Vec<_>>());
    }
    let mut stage = Stage::new();
    stage.brings_marked(OLD, 0..3, numbered);
    stage.joins();
    stage.brings_marked(NEW, 0..2, numbered);
    stage.brings_marked(NEW, 2..5, numbered);
    assert_eq!(stage.reads_values(), (0..5).collect::<Vec<_>>(), "it was behind");

    let mut stage = Stage::new();
    stage.brings_marked(OLD, 0..5, numbered);
    stage.joins();
    stage.brings_marked(NEW, 0..1, numbered);
    stage.brings_marked(NEW, 1..8, numbered);
    assert_eq!(stage.reads_values(), (0..8).collect::<Vec<_>>(), "it was far behind");

    let mut stage = Stage::new();
    stage.brings_marked(OLD, 0..3, numbered);
    stage.joins();
    assert!(!stage.brings_marked(NEW, 5..7, numbered));
    assert!(stage.brings_marked(OLD, 3..5, numbered), "the old socket has what is missing");
    assert_eq!(stage.reads_values(), (0..7).collect::<Vec<_>>());
}

#[test]
fn a_snapshot_needs_nothing_of_what_was_before_it() {
    let snapshot = |value| if value == 100 { Mark::default().snapshot() } else { Mark::default() };
    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    stage.joins();
    assert!(stage.brings_marked(NEW, [100, 3, 4], snapshot));
    assert_eq!(stage.reads_values(), [0, 1, 2, 100, 3, 4]);

    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    stage.joins();
    assert!(!stage.brings_marked(NEW, [1, 2], snapshot));
    assert!(stage.brings_marked(NEW, [100, 4], snapshot));
    assert_eq!(stage.reads_values(), [0, 1, 2, 100, 4]);

    let mut stage = Stage::new();
    stage.brings(OLD, 0..3);
    stage.joins();
    assert!(stage.brings_marked(NEW, [8, 9, 100], snapshot));
    assert_eq!(stage.reads_values(), [0, 1, 2, 8, 9, 100], "what was not delivered is");
}

#[test]
fn what_the_next_source_must_bring_again_and_does_not_is_told() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..100);
    stage.joins();
    assert!(stage.brings(NEW, 10..50));
    stage.brings(NEW, 50..60);
    stage.brings(NEW, 70..105);
    let got = stage.reads();
    let expected =
        [values(0..100), vec![gap(DisconnectReason::Rotated)], values(70..105)].concat_all();
    assert_eq!(got, expected);
}

#[test]
fn a_hole_in_what_the_next_source_brings_begins_the_search_anew() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..20);
    stage.joins();
    stage.brings(NEW, 10..20);
    stage.topic.missing(NEW, Gap::Sequence { missed: Some(1) }, stage.now);
    stage.brings(OLD, 20..70);
    assert!(stage.brings(NEW, 21..80));
    assert_eq!(stage.reads_values(), (0..80).collect::<Vec<_>>());
}

#[test]
fn a_hole_in_what_the_source_brings_is_told_and_what_comes_after_it_comes_once() {
    let mut stage = Stage::new();
    stage.brings(OLD, 0..20);
    stage.joins();
    stage.brings(NEW, 10..25);
    stage.topic.missing(OLD, Gap::Sequence { missed: Some(1) }, stage.now);
    stage.brings(OLD, 21..70);
    assert!(stage.brings(NEW, 25..80));
    let told = vec![Got::Gap(Gap::Sequence { missed: Some(1) })];
    let got = stage.reads();
    assert_eq!(got[..21], [values(0..20), told].concat_all());
    assert_eq!(got[21..], values(21..80));
}

/// `concat` for what cannot be cloned.
trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

/// How a server and the network between play with two sockets of one feed.
#[derive(Clone, Debug)]
enum Step {
    /// The server sends so many to every socket that has joined.
    Send(u8),
    /// So many of what is under way to the old socket, or the new one, arrive.
    Arrive {
        new: bool,
        most: u8,
    },
    Join,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..24_u8).prop_map(Step::Send),
        8 => (any::<bool>(), 1..32_u8).prop_map(|(new, most)| Step::Arrive { new, most }),
        1 => Just(Step::Join),
    ]
}

/// Plays `steps` on a feed of `kinds` different values, and says what the reader got and what the
/// server sent.
fn play(steps: &[Step], kinds: u64, seed: u64) -> (Vec<Got>, Vec<u64>, ConnectionId) {
    let mut stage = Stage::new();
    let mut feed: Vec<u64> = Vec::new();
    let (mut old, mut new) = (VecDeque::new(), None::<VecDeque<u64>>);
    let mut random = seed | 1;
    let mut got = Vec::new();
    // All that is under way arrives in the end, and enough for a decision where one is possible.
    let end = [Step::Join, Step::Send(200), Step::Arrive { new: false, most: 255 }];
    let all = Step::Arrive { new: true, most: 255 };
    let end = end.into_iter().chain([all.clone(), Step::Arrive { new: false, most: 255 }, all]);
    for step in steps.iter().cloned().chain(end) {
        match step {
            Step::Send(count) => {
                for _ in 0..count {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let n = feed.len() as u64;
                    let value = if kinds == NUMBERED { n } else { (random >> 20) % kinds };
                    feed.push(value);
                    old.push_back(value);
                    new.iter_mut().for_each(|new| new.push_back(value));
                }
            }
            Step::Arrive { new: false, most } => {
                let values: Vec<_> = old.drain(..old.len().min(usize::from(most))).collect();
                stage.brings(OLD, values);
            }
            Step::Arrive { new: true, most } => {
                let Some(new) = &mut new else { continue };
                let values: Vec<_> = new.drain(..new.len().min(usize::from(most))).collect();
                stage.brings(NEW, values);
            }
            Step::Join => {
                if new.is_none() {
                    new = Some(VecDeque::new());
                    stage.joins();
                }
            }
        }
        got.extend(stage.reads());
    }
    (got, feed, stage.source())
}

/// Whether the reader lost nothing: all values in order, or gaps after which some may come again.
fn lost_nothing(got: &[Got], feed: &[u64]) -> bool {
    let mut pieces = got.split(|got| matches!(got, Got::Gap(_)));
    let piece = |piece: &[Got]| -> Vec<u64> {
        let value = |got: &Got| match got {
            Got::Value(value) => *value,
            Got::Gap(_) => unreachable!("split there"),
        };
        piece.iter().map(value).collect()
    };
    let first = pieces.next().map(piece).unwrap_or_default();
    let Some(mut rest) = feed.strip_prefix(&first[..]) else { return false };
    for later in pieces.map(piece) {
        // It goes on at or before where it left off: the last piece reaches the feed's end.
        let from = feed.len() - rest.len();
        let begins = (0..=from).rev().find(|at| feed[*at..].starts_with(&later));
        let Some(at) = begins else { return false };
        rest = &feed[at + later.len()..];
    }
    true
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 0..40)
}

/// Whether each feed of `kinds` different values is handed over as it should be, with the mistake
/// made.
fn all_goes_well(kinds: u64, defect: Option<Defect>) -> bool {
    // A mistake is looked for until it shows.
    let cases = if defect.is_some() { 50_000 } else { 400 };
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let outcome = TestRunner::new(config).run(&(steps(), any::<u64>()), |(steps, seed)| {
        let (got, feed, source) = with(defect, || play(&steps, kinds, seed));
        prop_assert!(lost_nothing(&got, &feed), "{got:?} {feed:?}");
        if kinds == NUMBERED {
            prop_assert_eq!(source, NEW);
            prop_assert_eq!(got, values(0..feed.len() as u64));
        }
        Ok(())
    });
    if defect.is_none() {
        outcome.as_ref().map_err(ToString::to_string).unwrap();
    }
    outcome.is_ok()
}

#[test]
fn a_numbered_feed_is_handed_over_without_loss_repeat_or_gap() {
    assert!(all_goes_well(NUMBERED, None));
}

#[test]
fn legitimate_repeats_are_neither_lost_nor_repeated() {
    for kinds in [2, 3, 4, 10, 100] {
        assert!(all_goes_well(kinds, None));
    }
}

#[test]
fn a_feed_of_one_value_loses_nothing() {
    assert!(all_goes_well(1, None));
}

#[test]
fn a_handover_that_makes_a_mistake_is_found_out() {
    for (kinds, defect) in [
        (NUMBERED, Defect::GapAtEveryHandover),
        (NUMBERED, Defect::HandoverRepeats),
        (10, Defect::HandoverRepeats),
        (10, Defect::RepeatIsDropped),
    ] {
        assert!(!all_goes_well(kinds, Some(defect)), "{defect:?} went unnoticed");
    }
}
