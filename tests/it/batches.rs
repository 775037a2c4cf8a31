//! Reading in batches, and reading without a copy.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::FutureExt as _;
use futures::stream::{FusedStream as _, StreamExt as _};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time;
use wsmux::{
    Batches, Config, DecodeError, FromMessage, Gap, Items, Message, MessageRef, RetryPolicy,
    Stamped, StreamError, Subscription, Text,
};

use crate::{MINUTE, MS, config, manager, manager_with, settle};

/// An item in words.
fn words<T: std::fmt::Display>(item: Result<T, StreamError>) -> String {
    match item {
        Ok(value) => value.to_string(),
        Err(StreamError::Gap(Gap::Lagged { missed })) => format!("lagged {missed}"),
        Err(StreamError::Gap(Gap::Reconnected { .. })) => "reconnected".to_owned(),
        Err(StreamError::Closed(reason)) => reason.label().to_owned(),
        Err(StreamError::Decode(_)) => "decode".to_owned(),
        Err(other) => panic!("{other:?}"),
    }
}

fn lent<T>(items: &Items<T>) -> Vec<String> {
    let text = |message: MessageRef<'_>| message.as_text().unwrap().to_owned();
    items.messages().map(|item| words(item.map(text).map_err(Clone::clone))).collect()
}

fn now<T: FromMessage>(batches: &mut Batches<T>) -> Option<Items<T>> {
    batches.recv().now_or_never().map(|items| items.expect("not the end"))
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_all_that_is_there_with_the_gaps_in_their_place() {
    let (manager, mut server) = manager();
    let mut batches = manager.subscribe::<Text>("x").unwrap().batches();
    assert!(now(&mut batches).is_none());
    let peer = server.accept().await;
    peer.send_all(["1", "2"]);
    settle().await;
    peer.send("3");
    drop(peer);
    settle().await;
    let peer = server.accept().await;
    peer.send("4");
    settle().await;
    assert_eq!(batches.get_ref().lag(), 4);
    let items = now(&mut batches).unwrap();
    assert_eq!((items.len(), batches.get_ref().lag()), (5, 0));
    assert_eq!(batches.get_ref().info().unwrap().lag, 0, "others see it too");
    assert_eq!(items.map(words).collect::<Vec<_>>(), ["1", "2", "3", "reconnected", "4"]);
    assert!(now(&mut batches).is_none(), "nothing is left");
    peer.send("5");
    settle().await;
    manager.shutdown().await;
    let items = batches.next().await.unwrap();
    assert_eq!(items.map(words).collect::<Vec<_>>(), ["5", "shutdown"]);
    assert!(batches.is_terminated());
    assert!(batches.next().await.is_none() && batches.recv().await.is_none(), "the end");
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_no_more_items_than_asked_for_and_the_rest_comes_next() {
    for (max, expected) in [(0, vec![1; 6]), (1, vec![1; 6]), (4, vec![4, 2]), (9, vec![6])] {
        let (manager, mut server) = manager();
        let mut batches = manager.subscribe::<Text>("x").unwrap().batches().max_items(max);
        let peer = server.accept().await;
        peer.send_all(["1", "2", "3"]);
        drop(peer);
        settle().await;
        let peer = server.accept().await;
        peer.send_all(["4", "5"]);
        settle().await;
        let (mut lens, mut seen) = (Vec::new(), Vec::new());
        while let Some(items) = now(&mut batches) {
            lens.push(items.len());
            seen.extend(items.map(words));
        }
        assert_eq!(
            (lens, seen),
            (expected, ["1", "2", "3", "reconnected", "4", "5"].map(String::from).into())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_after_batches_is_read_as_before() {
    let (manager, mut server) = manager();
    let mut batches = manager.subscribe::<Text>("x").unwrap().batches().max_items(2);
    let peer = server.accept().await;
    peer.send_all(["1", "2", "3"]);
    settle().await;
    drop(now(&mut batches).unwrap());
    assert_eq!(batches.into_inner().recv().await.unwrap().unwrap(), "3");
}

/// Reads the same stream twice, in batches and one by one, as much of it at the same time.
struct Twins {
    batches: Option<Batches<Stamped<Text>>>,
    single: Subscription<Stamped<Text>>,
}

impl Twins {
    /// Reads up to `max` items, and says whether there were any.
    fn read(&mut self, max: usize) -> bool {
        let mut batches = self.batches.take().unwrap().max_items(max);
        let stamped =
            |item: Result<Stamped<Text>, _>| {
                words(item.map(|it| {
                    format!("{} {} {} {:?}", it.value, it.seq, it.replayed, it.received_at)
                }))
            };
        let items: Vec<_> =
            now(&mut batches).map_or_else(Vec::new, |items| items.map(stamped).collect());
        self.batches = Some(batches);
        for item in &items {
            let expected =
                self.single.recv().now_or_never().expect("as many").expect("not the end");
            assert_eq!(*item, stamped(expected));
        }
        if items.len() < max {
            assert!(self.single.recv().now_or_never().is_none(), "{items:?}");
        }
        assert_eq!(self.batches.as_ref().unwrap().get_ref().lag(), self.single.lag());
        !items.is_empty()
    }
}

#[tokio::test(start_paused = true)]
async fn batches_read_what_a_reader_of_single_items_reads() {
    for seed in 0..40 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let settings = Config {
            replay_latest: true,
            ..config().buffer(rng.random_range(1..12)).retry(RetryPolicy::forever())
        };
        let (manager, mut server) = manager_with(settings);
        let lease = manager.keep_warm("x").unwrap();
        let mut peer = server.accept().await;
        peer.send("0");
        settle().await;
        let batches = Some(manager.subscribe("x").unwrap().batches());
        let mut twins = Twins { batches, single: manager.subscribe("x").unwrap() };
        let mut next = 1;
        for _ in 0..60 {
            match rng.random_range(0..10) {
                0 => {
                    drop(peer);
                    settle().await;
                    peer = server.accept().await;
                }
                1..6 => {
                    let more = rng.random_range(1..6);
                    peer.send_all((next..next + more).map(|n| n.to_string()));
                    next += more;
                }
                _ => drop(twins.read(rng.random_range(1..9))),
            }
            settle().await;
        }
        while twins.read(8) {}
        drop(lease);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_lent_as_they_came_and_stay() {
    let (manager, mut server) = manager();
    let mut batches = manager.subscribe::<u64>("x").unwrap().batches();
    let peer = server.accept().await;
    peer.send_all(["1", "x", "3"]);
    drop(peer);
    settle().await;
    let _peer = server.accept().await;
    settle().await;
    let mut items = now(&mut batches).unwrap();
    for _ in 0..2 {
        assert_eq!(lent(&items), ["1", "x", "3", "reconnected"]);
    }
    assert_eq!(manager.metrics().decode_errors, 0, "they are not read");
    assert_eq!((items.next().unwrap().unwrap(), items.len()), (1, 3));
    assert_eq!(lent(&items), ["x", "3", "reconnected"], "what is left");
    assert!(matches!(items.next(), Some(Err(StreamError::Decode(_)))));
    assert_eq!((manager.metrics().decode_errors, items.len()), (1, 2));
    assert_eq!(items.map(words).collect::<Vec<_>>(), ["3", "reconnected"]);
}

#[tokio::test(start_paused = true)]
async fn values_are_made_one_by_one_and_a_panic_costs_one_message() {
    static READ: AtomicUsize = AtomicUsize::new(0);
    struct Touchy(Message);
    impl FromMessage for Touchy {
        fn from_message(message: Message) -> Result<Self, DecodeError> {
            READ.fetch_add(1, SeqCst);
            assert_ne!(message.as_text(), Some("2"), "as the test has it");
            Ok(Self(message))
        }
    }
    let (manager, mut server) = manager();
    let mut batches = manager.subscribe::<Touchy>("x").unwrap().batches();
    let peer = server.accept().await;
    peer.send_all(["1", "2", "3", "4"]);
    settle().await;
    let mut items = now(&mut batches).unwrap();
    assert_eq!(items.next().unwrap().unwrap().0.as_text(), Some("1"));
    assert_eq!(READ.load(SeqCst), 1);
    assert!(std::panic::catch_unwind(AssertUnwindSafe(|| items.next())).is_err());
    assert_eq!(items.len(), 2);
    assert_eq!(items.next().unwrap().unwrap().0.as_text(), Some("3"));
    drop(items);
    assert_eq!(READ.load(SeqCst), 3, "what is dropped is not read");
    assert!(now(&mut batches).is_none(), "it was taken");
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_hand_makes_no_reader_lag_and_outlives_its_stream() {
    let (manager, mut server) = manager_with(config().buffer(4));
    let mut batches = manager.subscribe::<Text>("x").unwrap().batches();
    let peer = server.accept().await;
    let mut held = Vec::new();
    for n in 0..100 {
        peer.send_all((4 * n..4 * n + 4).map(|n| n.to_string()));
        settle().await;
        held.push(now(&mut batches).unwrap());
        assert_eq!(held.last().unwrap().len(), 4);
    }
    drop(batches);
    manager.shutdown().await;
    drop(manager);
    let seen = held.into_iter().flatten().map(words);
    assert!(seen.eq((0..400).map(|n| n.to_string())));
}

#[tokio::test(start_paused = true)]
async fn batches_may_be_cancelled_at_any_time() {
    let (manager, mut server) = manager();
    let mut batches = manager.subscribe::<u64>("x").unwrap().batches().max_items(2);
    let peer = server.accept().await;
    let sending = tokio::spawn(async move {
        for n in 0..300 {
            time::sleep(7 * MS).await;
            peer.send_all((3 * n..3 * n + 3).map(|n: u64| n.to_string()));
        }
        peer
    });
    let mut ticks = time::interval(3 * MS);
    let mut seen = Vec::new();
    while seen.len() < 900 {
        tokio::select! {
            items = batches.recv() => seen.extend(items.unwrap().map(Result::unwrap)),
            _ = ticks.tick() => {}
        }
    }
    assert!(seen.into_iter().eq(0..900));
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_is_lent_to_who_reads_it_without_a_copy() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<u64>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(["a,b", "7"]);
    drop(peer);
    settle().await;
    let _peer = server.accept().await;
    settle().await;
    let second = |message: MessageRef<'_>| Some(message.as_text()?.split_once(',')?.1.to_owned());
    assert_eq!(stream.recv_with(second).await.unwrap().unwrap().unwrap(), "b");
    assert_eq!(stream.recv().await.unwrap().unwrap(), 7, "the next one");
    assert!(matches!(stream.recv_with(second).await, Some(Err(StreamError::Gap(_)))));
    let left = time::timeout(MINUTE, stream.recv_with(|_| panic!("there is none"))).await;
    assert!(left.is_err(), "cancelled");
    manager.shutdown().await;
    assert!(matches!(stream.recv_with(second).await, Some(Err(StreamError::Closed(_)))));
    assert!(stream.recv_with(second).await.is_none());
    assert_eq!(manager.metrics().decode_errors, 0, "it was not read as a number");
}
