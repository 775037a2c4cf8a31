//! Random servers and readers, and the server's own state to compare with.
//!
//! A book is a map of keys to values. Each change of a key has a number, and an update holds some
//! changes that follow on each other. The server drops, repeats and delays updates, loses sockets,
//! and gives snapshots that are late, old, or none; the reader polls when it likes, and lags. At
//! each item the reader's book has to be what the server's was at that number.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use tokio::time::{sleep, timeout};
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::{Continuity, Resync, ResyncPolicy, Resynced, RetryPolicy, StreamError};

use crate::{DAY, MS, config, manager_with, settle};

type Book = BTreeMap<u8, u64>;

#[derive(Clone, Debug)]
struct Snapshot {
    book: Book,
    last: u64,
}

#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
struct Update {
    changes: Book,
    first: u64,
    last: u64,
}

/// The keys changed so far; a change's value is its number, from 1.
#[derive(Default)]
struct Truth(Vec<u8>);

impl Truth {
    fn last(&self) -> u64 {
        self.0.len() as u64
    }

    fn at(&self, number: u64) -> Book {
        (1..).zip(&self.0).map(|(n, key)| (*key, n)).take(number as usize).collect()
    }

    fn change(&mut self, keys: &[u8]) -> Update {
        let first = self.last() + 1;
        self.0.extend(keys);
        let changes = (first..).zip(keys).map(|(n, key)| (*key, n)).collect();
        Update { changes, first, last: self.last() }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delivery {
    Delayed,
    Dropped,
    Garbled,
    Once,
    Twice,
}

#[derive(Clone, Debug)]
enum Op {
    Break,
    Poll(usize),
    Send(Vec<u8>, Delivery),
    Wait(u64),
}

/// What a fetch does: waits, looks so many changes back, waits, and fails or not.
#[derive(Clone, Debug)]
struct Fetch {
    before: u64,
    back: u64,
    after: u64,
    fails: bool,
}

#[derive(Clone, Debug)]
struct Program {
    buffer: usize,
    fetches: Vec<Fetch>,
    max_held: usize,
    ops: Vec<Op>,
}

/// How updates are judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rule {
    Chained,
    Numbered,
    /// The server has to be one that neither drops nor repeats on a socket, nor gives old snapshots.
    Ordered,
}

/// What a reader does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Defect {
    /// Its snapshots are all from before the stream was joined.
    AsksBeforeItJoins,
    /// An update that does not follow counts as one that does.
    BlindToHoles,
    /// Updates that the snapshot has are applied all the same.
    KeepsContained,
    /// It goes on after a gap as if there were none.
    SwallowsGaps,
    /// It takes no snapshot but the first.
    TakesOneSnapshot,
}

fn programs(rule: Rule) -> impl Strategy<Value = Program> {
    let faults = rule != Rule::Ordered;
    let rare = u32::from(faults);
    let delivery = prop_oneof![
        12 => Just(Delivery::Once),
        rare => Just(Delivery::Delayed),
        rare => Just(Delivery::Dropped),
        rare => Just(Delivery::Twice),
        1 => Just(Delivery::Garbled),
    ];
    let op = prop_oneof![
        1 => Just(Op::Break),
        8 => (1..12_usize).prop_map(Op::Poll),
        16 => (vec(0..5_u8, 1..4), delivery).prop_map(|(keys, how)| Op::Send(keys, how)),
        6 => (1..80_u64).prop_map(Op::Wait),
    ];
    let back = prop_oneof![3 => Just(0), rare => 0..12_u64];
    let fetch = (0..40_u64, back, 0..40_u64, prop::bool::weighted(0.2))
        .prop_map(|(before, back, after, fails)| Fetch { before, back, after, fails });
    (1..20_usize, vec(fetch, 1..6), 1..20_usize, vec(op, 1..80))
        .prop_map(|(buffer, fetches, max_held, ops)| Program { buffer, fetches, max_held, ops })
}

fn policy(rule: Rule, defect: Option<Defect>) -> ResyncPolicy<Snapshot, Update> {
    let judged = move |last: &mut u64, u: &Update| {
        let found = match () {
            () if u.last <= *last => Continuity::Old,
            () if u.first > *last + 1 => Continuity::Hole { missed: None },
            () => Continuity::Follows,
        };
        let passes = match defect {
            Some(Defect::BlindToHoles) => found != Continuity::Old,
            Some(Defect::KeepsContained) => !matches!(found, Continuity::Hole { .. }),
            _ => found == Continuity::Follows,
        };
        if passes {
            *last = u.last;
            return Continuity::Follows;
        }
        found
    };
    match (defect, rule) {
        (Some(Defect::BlindToHoles | Defect::KeepsContained), _) => {
            ResyncPolicy::custom(|s: &Snapshot| s.last, judged)
        }
        (_, Rule::Chained) => {
            ResyncPolicy::chained(|s: &Snapshot| s.last, |u: &Update| u.first - 1, |u| u.last)
        }
        (_, Rule::Numbered) => {
            ResyncPolicy::numbered(|s: &Snapshot| s.last, |u: &Update| u.first..=u.last)
        }
        (_, Rule::Ordered) => ResyncPolicy::ordered(|s: &Snapshot| s.last, |u: &Update| u.last),
    }
}

/// Compares what a reader is given with the truth.
#[derive(Default)]
struct Oracle {
    book: Option<(Book, u64)>,
    compared: usize,
}

type Item = Result<Resynced<Snapshot, Update>, StreamError>;

impl Oracle {
    fn item(&mut self, item: Item, truth: &Truth) -> Result<(), String> {
        match item {
            Err(_) => self.book = None,
            Ok(Resynced::Snapshot(snapshot)) => {
                if self.book.is_some() {
                    return Err("a snapshot out of the blue".into());
                }
                self.book = Some((snapshot.book, snapshot.last));
            }
            Ok(Resynced::Update(update)) => {
                let Some((book, last)) = &mut self.book else {
                    return Err(format!("{}: no snapshot since the gap", update.last));
                };
                if update.last <= *last {
                    return Err(format!("{} after {last}", update.last));
                }
                book.extend(update.changes);
                *last = update.last;
            }
        }
        let Some((book, last)) = &self.book else { return Ok(()) };
        self.compared += 1;
        let expected = truth.at(*last);
        if *book == expected {
            Ok(())
        } else {
            Err(format!("at {last}: {book:?}, not {expected:?}"))
        }
    }
}

struct World {
    calm: Arc<Mutex<bool>>,
    defect: Option<Defect>,
    delayed: Option<String>,
    oracle: Oracle,
    peer: Option<Peer>,
    reader: Resync<Snapshot, Update>,
    server: MemoryServer,
    truth: Arc<Mutex<Truth>>,
}

impl World {
    async fn new(program: &Program, rule: Rule, defect: Option<Defect>) -> Self {
        // However often a program breaks the socket.
        let config = config().retry(RetryPolicy::forever()).buffer(program.buffer);
        let (manager, mut server) = manager_with(config);
        let truth = Arc::new(Mutex::new(Truth::default()));
        let calm = Arc::new(Mutex::new(false));
        let mut plans = program.fetches.clone().into_iter().cycle();
        let (seen, is_calm) = (Arc::clone(&truth), Arc::clone(&calm));
        let fetch = move || {
            let plan = plans.next().filter(|_| !*is_calm.lock().unwrap());
            let plan = plan.unwrap_or(Fetch { before: 5, back: 0, after: 5, fails: false });
            let truth = Arc::clone(&seen);
            async move {
                sleep(Duration::from_millis(plan.before)).await;
                let snapshot = {
                    let truth = truth.lock().unwrap();
                    let last = match defect {
                        Some(Defect::AsksBeforeItJoins) => 1,
                        _ => truth.last().saturating_sub(plan.back),
                    };
                    Snapshot { book: truth.at(last), last }
                };
                sleep(Duration::from_millis(plan.after)).await;
                if plan.fails { Err(io::Error::other("no")) } else { Ok(snapshot) }
            }
        };
        let policy = policy(rule, defect).max_held(program.max_held);
        let reader = manager.subscribe("x").unwrap().resync(fetch, policy);
        truth.lock().unwrap().change(&[0, 1, 0]);
        let peer = Some(server.accept().await);
        let oracle = Oracle::default();
        Self { calm, defect, delayed: None, oracle, peer, reader, server, truth }
    }

    fn send(&mut self, keys: &[u8], delivery: Delivery) {
        let update = self.truth.lock().unwrap().change(keys);
        let text = serde_json::to_string(&update).unwrap();
        let Some(peer) = &self.peer else { return };
        match delivery {
            Delivery::Delayed => self.delayed = Some(text),
            Delivery::Dropped => {}
            Delivery::Garbled => peer.send("?"),
            Delivery::Once => peer.send(text),
            Delivery::Twice => peer.send_all([text.clone(), text]),
        }
        if delivery != Delivery::Delayed {
            self.delayed.take().into_iter().for_each(|text| peer.send(text));
        }
    }

    fn take(&mut self, item: Item) -> Result<(), String> {
        let has_book = self.oracle.book.is_some();
        let is_hidden = match (self.defect, &item) {
            (Some(Defect::SwallowsGaps | Defect::TakesOneSnapshot), Err(_)) => has_book,
            (Some(Defect::TakesOneSnapshot), Ok(Resynced::Snapshot(_))) => has_book,
            _ => false,
        };
        if is_hidden {
            return Ok(());
        }
        self.oracle.item(item, &self.truth.lock().unwrap())
    }

    async fn run(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Break => {
                self.peer = None;
                self.delayed = None;
                // Changes that nobody is sent.
                self.truth.lock().unwrap().change(&[1, 2]);
                self.peer = Some(self.server.accept().await);
            }
            Op::Poll(items) => {
                for _ in 0..*items {
                    let Some(item) = self.reader.recv().now_or_never() else { break };
                    self.take(item.ok_or("it ended")?)?;
                }
            }
            Op::Send(keys, delivery) => self.send(keys, *delivery),
            Op::Wait(ms) => sleep(Duration::from_millis(*ms)).await,
        }
        Ok(())
    }

    /// From now on all is well: the reader has to catch up.
    async fn catch_up(&mut self) -> Result<(), String> {
        *self.calm.lock().unwrap() = true;
        settle().await;
        for _ in 0..400 {
            self.send(&[3], Delivery::Once);
            while let Ok(item) = timeout(200 * MS, self.reader.recv()).await {
                self.take(item.ok_or("it ended")?)?;
            }
            let last = self.oracle.book.as_ref().map(|book| book.1);
            if last == Some(self.truth.lock().unwrap().last()) && self.reader.is_synced() {
                return Ok(());
            }
        }
        Err("it never caught up".into())
    }
}

/// Runs a program, and tells how many books were compared.
fn run(program: &Program, rule: Rule, defect: Option<Defect>) -> Result<usize, String> {
    let all = async {
        let mut world = World::new(program, rule, defect).await;
        for op in &program.ops {
            world.run(op).await?;
        }
        world.catch_up().await?;
        Ok(world.oracle.compared)
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    // A day is nothing on this clock, and what waits for ever is told.
    runtime.block_on(async { timeout(DAY, all).await }).map_err(|_| "it stood still")?
}

/// How many books were compared, or what was wrong with one.
fn compare(rule: Rule, defect: Option<Defect>) -> Result<usize, String> {
    // A mistake is looked for until it shows: not each program has what shows it.
    let (cases, max_shrink_iters) = if defect.is_some() { (50_000, 0) } else { (128, 1000) };
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters,
        ..ProptestConfig::default()
    };
    let compared = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(&programs(rule), |program| {
        compared.set(compared.get() + run(&program, rule, defect).map_err(TestCaseError::fail)?);
        Ok(())
    });
    outcome.map(|()| compared.get()).map_err(|e| e.to_string())
}

#[test]
fn a_book_is_the_servers_at_each_item_whatever_happens() {
    for rule in [Rule::Numbered, Rule::Chained, Rule::Ordered] {
        let compared = compare(rule, None).unwrap_or_else(|e| panic!("{rule:?}: {e}"));
        assert!(compared > 128, "{rule:?}: only {compared} books were compared");
    }
}

#[test]
fn a_program_of_many_breaks_comes_to_its_end() {
    let fetches = vec![Fetch { before: 1, back: 0, after: 1, fails: false }];
    // A fetch goes on only while it is polled.
    let polls = [Op::Wait(500), Op::Poll(9)];
    let ops = (0..20).flat_map(|_| polls.iter().cycle().take(10).chain([&Op::Break]).cloned());
    let ops = ops.collect();
    let program = Program { buffer: 9, fetches, max_held: 9, ops };
    assert!(run(&program, Rule::Numbered, None).unwrap() > 10);
}

#[test]
fn a_reader_that_makes_a_mistake_is_found_out() {
    for (rule, defect) in [
        (Rule::Ordered, Defect::AsksBeforeItJoins),
        (Rule::Numbered, Defect::BlindToHoles),
        (Rule::Numbered, Defect::KeepsContained),
        (Rule::Numbered, Defect::SwallowsGaps),
        (Rule::Numbered, Defect::TakesOneSnapshot),
    ] {
        let outcome = compare(rule, Some(defect));
        assert!(outcome.is_err(), "{defect:?} went unnoticed");
        let text = outcome.unwrap_err();
        assert!(!text.contains("never caught up"), "{defect:?}: {text}");
    }
}
