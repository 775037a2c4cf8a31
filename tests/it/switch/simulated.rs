//! Random programs of sends, reads and changes, against a naive reading of what a reader may see.
//!
//! Both sources carry one numbered feed, each some numbers behind it. A new stream of a source gets
//! what the source has yet to deliver, or what is yet to be sent, and perhaps the latest again.
//!
//! A number is where its message lies in memory, so that messages of equal bytes have numbers too.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use proptest::prelude::*;
use wsmux::compat::{Side, Source, Switch, Switched};
use wsmux::{Gap, Message, StreamError};

use super::{Client, Yielded};

/// What happens, step by step.
#[derive(Clone, Debug)]
enum Step {
    /// A side loses what it has yet to deliver, and tells its streams.
    Break(Side),
    /// A side delivers up to so many.
    Deliver(Side, usize),
    /// A side ends all of its streams.
    End(Side),
    /// The feed goes on by so many.
    Feed(usize),
    Read(usize),
    Turn(Side),
}

/// How the new streams of a source begin.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// With the feed's next number, not with the next to be delivered.
    cold: bool,
    /// With the number before that, again.
    replay: bool,
}

/// The feed's messages one after the other, of as many kinds as there are to be.
fn feed(kinds: u32) -> Bytes {
    let kind = |n: u32| if kinds == ALL { n } else { (n.wrapping_mul(0x9e37_79b1) >> 16) % kinds };
    Bytes::from_owner((0..50_000).flat_map(|n| kind(n).to_be_bytes()).collect::<Vec<_>>())
}

/// Each message is unlike any other.
const ALL: u32 = u32::MAX;
const WIDTH: usize = 4;

/// One source: a client, and how far it has delivered the feed.
#[derive(Clone, Debug)]
struct Venue {
    client: Client,
    feed: Bytes,
    manner: Manner,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers that all streams were given.
    delivered: u64,
    fed: u64,
}

impl Source for Venue {
    fn subscribe(&self, name: &str) -> BoxStream<'static, Yielded> {
        let state = self.state.lock().unwrap();
        let from = if self.manner.cold { state.fed } else { state.delivered };
        let latest = from.checked_sub(1).filter(|_| self.manner.replay);
        self.client.0.lock().unwrap().greeting = latest.map(|n| Ok(self.message(n)));
        let stream = self.client.subscribe(name);
        let mut greeted = latest.is_none();
        let venue = self.clone();
        let mut is_for_it = move |item: &Yielded| {
            let first = !std::mem::replace(&mut greeted, true);
            first || item.as_ref().map_or(true, |message| venue.number(message) >= from)
        };
        stream.filter(move |item| std::future::ready(is_for_it(item))).boxed()
    }
}

impl Venue {
    fn message(&self, n: u64) -> Message {
        let at = WIDTH * usize::try_from(n).unwrap();
        Message::Binary(self.feed.slice(at..at + WIDTH))
    }

    fn number(&self, message: &Message) -> u64 {
        let at = message.as_bytes().as_ptr().addr() - self.feed.as_ptr().addr();
        (at / WIDTH) as u64
    }

    fn feed(&self, count: usize) {
        self.state.lock().unwrap().fed += count as u64;
    }

    fn deliver(&self, most: usize) {
        let range = {
            let mut state = self.state.lock().unwrap();
            let from = state.delivered;
            state.delivered = state.fed.min(from.saturating_add(most as u64));
            from..state.delivered
        };
        self.client.send_all(range.map(|n| self.message(n)));
    }

    fn lose(&self) {
        let mut state = self.state.lock().unwrap();
        state.delivered = state.fed;
        drop(state);
        self.client.fail(&StreamError::Gap(Gap::Sequence { missed: None }));
    }
}

/// What is tried: a switch, or something that only looks like one.
trait Moving {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Yielded>>;
    fn turn(&mut self, side: Side);
}

struct Real(Switch, Switched);

impl Real {
    fn new(old: Venue, new: Venue) -> Self {
        let switch = Switch::new(old, new);
        let stream = switch.subscribe("x");
        Self(switch, stream)
    }
}

impl Moving for Real {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Yielded>> {
        self.1.poll_next_unpin(cx)
    }

    fn turn(&mut self, side: Side) {
        match side {
            Side::New => self.0.use_new("x"),
            Side::Old => self.0.use_old_for_all(),
        }
    }
}

/// What is wrong with a twin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// Drops the one, and then joins the other.
    DropsFirst,
    /// Joins the other, and goes over with its first message.
    GoesOverBlindly,
    /// The same, with a gap each time.
    TellsAlways,
}

struct Twin {
    current: BoxStream<'static, Yielded>,
    next: Option<BoxStream<'static, Yielded>>,
    owed: Option<Yielded>,
    side: Side,
    venues: [Venue; 2],
    wrong: Wrong,
}

impl Twin {
    fn new(venues: &[Venue; 2], wrong: Wrong) -> Self {
        let current = venues[0].subscribe("x");
        let venues = venues.clone();
        Self { current, next: None, owed: None, side: Side::Old, venues, wrong }
    }
}

impl Moving for Twin {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Yielded>> {
        if let Some(owed) = self.owed.take() {
            return Poll::Ready(Some(owed));
        }
        if let Some(mut next) = self.next.take() {
            match next.poll_next_unpin(cx) {
                Poll::Ready(Some(item)) => {
                    self.current = next;
                    if self.wrong == Wrong::TellsAlways {
                        self.owed = Some(item);
                        let gap = Gap::Sequence { missed: None };
                        return Poll::Ready(Some(Err(StreamError::Gap(gap))));
                    }
                    return Poll::Ready(Some(item));
                }
                _ => self.next = Some(next),
            }
        }
        self.current.poll_next_unpin(cx)
    }

    fn turn(&mut self, side: Side) {
        if side == std::mem::replace(&mut self.side, side) {
            return;
        }
        let venue = &self.venues[usize::from(side == Side::New)];
        if self.wrong == Wrong::DropsFirst {
            self.current = futures::stream::pending().boxed();
            self.current = venue.subscribe("x");
        } else {
            self.next = Some(venue.subscribe("x"));
        }
    }
}

/// What a reader has seen, and whether it may.
#[derive(Debug)]
struct Oracle {
    /// Breaks and ends of the sources: each is the cause of at most one gap.
    causes: usize,
    gaps: usize,
    last: Option<u64>,
    /// Whether a source has ended a stream.
    may_end: bool,
    /// Whether a gap was told since the last number.
    told: bool,
    venue: Venue,
}

impl Oracle {
    fn new(venue: &Venue, causes: usize) -> Self {
        let venue = venue.clone();
        Self { causes, gaps: 0, last: None, may_end: false, told: false, venue }
    }

    fn see(&mut self, item: &Yielded) -> Result<(), String> {
        match item {
            Ok(message) => {
                let (number, told) = (self.venue.number(message), std::mem::take(&mut self.told));
                match self.last.replace(number) {
                    Some(last) if number > last + 1 && !told => {
                        Err(format!("{number} after {last}: lost silently"))
                    }
                    // After a gap, what was read may be told again: but in order from there on.
                    Some(last) if number <= last && !told => {
                        Err(format!("{number} after {last}: twice"))
                    }
                    _ => Ok(()),
                }
            }
            Err(StreamError::Gap(_)) => {
                self.told = true;
                self.gaps += 1;
                if self.gaps > self.causes { Err("a gap without a cause".into()) } else { Ok(()) }
            }
            other => Err(format!("unexpected: {other:?}")),
        }
    }
}

/// Runs `steps`, and then reads to the end of the feed. Gaps are allowed for `causes`, and for each
/// break and end.
fn run(
    steps: &[Step],
    venues: &[Venue; 2],
    subject: &mut dyn Moving,
    causes: usize,
) -> Result<Oracle, String> {
    let venue = |side: &Side| &venues[usize::from(*side == Side::New)];
    let mut oracle = Oracle::new(&venues[0], causes);
    let all = [Step::Feed(5), Step::Deliver(Side::Old, 999), Step::Deliver(Side::New, 999)];
    let rest = [all[0].clone(), all[1].clone(), all[2].clone(), Step::Read(usize::MAX)];
    for step in steps.iter().chain(rest.iter().cycle().take(4 * rest.len())) {
        match step {
            Step::Break(side) => {
                oracle.causes += 1;
                venue(side).lose();
            }
            Step::Deliver(side, most) => venue(side).deliver(*most),
            Step::End(side) => {
                oracle.causes += 1;
                oracle.may_end = true;
                venue(side).client.end();
            }
            Step::Feed(count) => venues.iter().for_each(|venue| venue.feed(*count)),
            Step::Read(most) => {
                if read(*most, subject, &mut oracle)? {
                    return Ok(oracle);
                }
            }
            Step::Turn(side) => subject.turn(*side),
        }
    }
    let fed = venues[0].state.lock().unwrap().fed;
    match oracle.last {
        Some(last) if last + 1 == fed => Ok(oracle),
        last => Err(format!("read up to {last:?} of {fed}")),
    }
}

/// Reads what there is, and says whether that was the end.
fn read(most: usize, subject: &mut dyn Moving, oracle: &mut Oracle) -> Result<bool, String> {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..most {
        match subject.poll(&mut cx) {
            Poll::Ready(Some(item)) => oracle.see(&item)?,
            Poll::Ready(None) if oracle.may_end => return Ok(true),
            Poll::Ready(None) => return Err("an end without a cause".into()),
            Poll::Pending => break,
        }
    }
    Ok(false)
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Old), Just(Side::New)]
}

/// Steps of two sources that never fail.
fn sound() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..8).prop_map(Step::Feed),
        4 => (side(), 1usize..12).prop_map(|(side, most)| Step::Deliver(side, most)),
        4 => (1usize..12).prop_map(Step::Read),
        2 => side().prop_map(Step::Turn),
    ]
}

fn faulty() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => sound(),
        1 => side().prop_map(Step::Break),
        1 => side().prop_map(Step::End),
    ]
}

fn manner() -> impl Strategy<Value = Manner> {
    (any::<bool>(), any::<bool>()).prop_map(|(cold, replay)| Manner { cold, replay })
}

fn venues(manners: [Manner; 2], kinds: u32) -> [Venue; 2] {
    let feed = feed(kinds);
    manners.map(|manner| Venue {
        client: Client::default(),
        feed: feed.clone(),
        manner,
        state: Arc::default(),
    })
}

fn real(venues: &[Venue; 2]) -> Real {
    Real::new(venues[0].clone(), venues[1].clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_sources_of_one_feed_are_read_once_and_in_order_however_often_it_moves(
        steps in proptest::collection::vec(sound(), 0..120),
        manners in [manner(), manner()],
    ) {
        let venues = venues(manners, ALL);
        let outcome = run(&steps, &venues, &mut real(&venues), 0);
        prop_assert!(outcome.is_ok(), "{:?}", outcome);
    }

    #[test]
    fn sources_that_break_and_end_are_read_with_a_gap_in_each_place_and_no_other(
        steps in proptest::collection::vec(faulty(), 0..120),
        manners in [manner(), manner()],
    ) {
        let venues = venues(manners, ALL);
        let outcome = run(&steps, &venues, &mut real(&venues), 0);
        prop_assert!(outcome.is_ok(), "{:?}", outcome);
    }

    #[test]
    fn a_feed_that_says_few_things_may_have_gaps_and_loses_nothing_silently(
        steps in proptest::collection::vec(sound(), 0..120),
        manners in [manner(), manner()],
        kinds in 1u32..3,
    ) {
        let venues = venues(manners, kinds);
        let outcome = run(&steps, &venues, &mut real(&venues), usize::MAX);
        prop_assert!(outcome.is_ok(), "{:?}", outcome);
    }
}

/// A thousand changes under load, with either source behind by more or less.
fn a_thousand_turns() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..1000usize {
        let side = if n % 2 == 0 { Side::New } else { Side::Old };
        steps.push(Step::Turn(side));
        for n in n..n + 1 + n % 4 {
            steps.push(Step::Read(n % 3));
            steps.push(Step::Feed(1 + n % 7));
            steps.push(Step::Deliver(Side::Old, n % 11));
            steps.push(Step::Read(n % 5));
            steps.push(Step::Deliver(Side::New, 1 + n % 9));
            steps.push(Step::Read(n % 9));
        }
    }
    steps
}

const MANNERS: [Manner; 4] = [
    Manner { cold: false, replay: false },
    Manner { cold: false, replay: true },
    Manner { cold: true, replay: false },
    Manner { cold: true, replay: true },
];

#[test]
fn a_thousand_turns_under_load_lose_and_repeat_nothing() {
    for old in MANNERS {
        for new in MANNERS {
            let venues = venues([old, new], ALL);
            let mut subject = real(&venues);
            let oracle = run(&a_thousand_turns(), &venues, &mut subject, 0).unwrap();
            assert_eq!(oracle.gaps, 0);
            let report = subject.0.report();
            assert!(report.moved > 50, "{report}");
            assert_eq!((report.moved_with_gap, report.failed), (0, 0), "{report}");
        }
    }
}

#[test]
fn switches_that_are_wrong_are_found_out() {
    for (wrong, verdict) in [
        (Wrong::DropsFirst, "lost silently"),
        (Wrong::GoesOverBlindly, "after"), // lost, or twice
        (Wrong::TellsAlways, "without a cause"),
    ] {
        let venues = venues([MANNERS[0]; 2], ALL);
        let mut twin = Twin::new(&venues, wrong);
        let found = run(&a_thousand_turns(), &venues, &mut twin, 0).unwrap_err();
        assert!(found.contains(verdict), "{wrong:?}: {found}");
    }
}
