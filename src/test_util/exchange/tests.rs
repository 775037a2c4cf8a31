//! The exchange against a plain client, over real sockets.

use std::ops::RangeInclusive;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::book::History;
use super::*;
use crate::error::{Gap, StreamError};
use crate::protocol::DisconnectReason;

type Client = WebSocketStream<TcpStream>;

async fn connect(exchange: &MockExchange, name: &str) -> Client {
    let tcp = TcpStream::connect(exchange.server().addr()).await.unwrap();
    client_async(format!("{}/{name}", exchange.url()), tcp).await.unwrap().0
}

async fn next(client: &mut Client) -> Option<Value> {
    let message = tokio::time::timeout(Duration::from_secs(30), client.next());
    let message = message.await.expect("it never came")?.ok()?;
    Some(serde_json::from_str(message.to_text().unwrap()).unwrap())
}

async fn many(client: &mut Client, count: usize) -> Vec<Value> {
    let mut values = Vec::new();
    while values.len() < count {
        values.push(next(client).await.unwrap());
    }
    values
}

async fn rest(client: &mut Client) -> Vec<Value> {
    let mut values = Vec::new();
    while let Some(value) = next(client).await {
        values.push(value);
    }
    values
}

fn ids(values: &[Value], key: &str) -> Vec<u64> {
    values.iter().map(|value| value[key].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn each_kind_of_stream_has_its_form() {
    let exchange = MockExchange::builder().rate(1000).start().await.unwrap();
    let mut trades = connect(&exchange, "btcusdt@trade").await;
    let trade = next(&mut trades).await.unwrap();
    assert_eq!((&trade["e"], &trade["s"]), (&"trade".into(), &"BTCUSDT".into()));
    let mut depth = connect(&exchange, "ethusdt@depth").await;
    let diffs = many(&mut depth, 100).await;
    for (before, after) in ids(&diffs, "u").into_iter().zip(&ids(&diffs, "U")[1..]) {
        assert_eq!(before + 1, *after);
    }
    let mut tickers = connect(&exchange, "ethusdt@bookTicker").await;
    let updates = ids(&many(&mut tickers, 100).await, "u");
    assert!(updates.is_sorted());
}

#[tokio::test]
async fn all_sockets_of_a_name_see_the_same_numbers_and_the_ledger_knows_them() {
    const NAME: &str = "btcusdt@trade";
    let exchange = MockExchange::builder().rate(2000).seed(7).start().await.unwrap();
    let mut first = connect(&exchange, NAME).await;
    many(&mut first, 100).await;
    let mut second = connect(&exchange, NAME).await;
    assert_eq!(exchange.server().max_sockets_on(&MockExchange::path(NAME)), 2);
    let mut ranges = Vec::new();
    let seen = many(&mut first, 400).await;
    many(&mut second, 200).await;
    exchange.drop_sockets();
    assert_eq!(exchange.sockets(), 0);
    for (client, before) in [(&mut first, 500), (&mut second, 200)] {
        let rest = ids(&rest(client).await, "t");
        ranges.push((before + rest.len() as u64, rest.last().copied()));
    }
    // It goes on without sockets.
    let sent = exchange.sent(NAME);
    while exchange.sent(NAME) < sent + 100 {
        tokio::task::yield_now().await;
    }
    let mut third = connect(&exchange, NAME).await;
    let after = ids(&many(&mut third, 1).await, "t")[0];
    let ledger = exchange.ledger(NAME);
    assert_eq!(ledger.len(), 3);
    for (served, (messages, last)) in ledger.iter().zip(ranges) {
        assert_eq!(served.messages, messages);
        assert_eq!(served.last - served.first + 1, messages, "no hole within a socket");
        assert!(last.is_none_or(|last| last == served.last));
    }
    assert!(ledger[0].first + 100 <= ledger[1].first && ledger[1].first <= ledger[0].last);
    assert!(ids(&seen, "t").is_sorted() && ledger[1].last + 100 <= after);
    assert_eq!(ledger[2].first, after);
    assert!(exchange.delivered(NAME) >= 701 && exchange.delivered(NAME) <= 2 * exchange.sent(NAME));
}

#[tokio::test]
async fn a_snapshot_and_the_updates_that_a_socket_is_served_from_then_on_are_the_book() {
    for seed in 0..20 {
        let exchange = MockExchange::builder().rate(5000).seed(seed).start().await.unwrap();
        let mut client = connect(&exchange, "btcusdt@depth").await;
        // At once: the socket is served what follows.
        let snapshot: Value =
            serde_json::from_str(&exchange.book("btcusdt").snapshot().await.unwrap()).unwrap();
        let last = snapshot["lastUpdateId"].as_u64().unwrap();
        let first = ids(&many(&mut client, 1).await, "U")[0];
        assert!(first <= last + 1, "seed {seed}: {first} after {last}");
    }
}

#[tokio::test]
async fn the_last_messages_can_be_listed() {
    let exchange = MockExchange::builder().rate(5000).start().await.unwrap();
    assert_eq!(exchange.recent("btcusdt@trade"), []);
    let mut client = connect(&exchange, "btcusdt@trade").await;
    many(&mut client, 2000).await;
    let listed = exchange.recent("btcusdt@trade");
    let read = |message: &Message| serde_json::from_slice(message.as_bytes()).unwrap();
    let numbers = ids(&listed.iter().map(read).collect::<Vec<Value>>(), "t");
    assert_eq!(numbers.len(), 1000);
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

#[tokio::test]
async fn a_book_is_known_as_far_back_as_was_asked_for() {
    for (known, is_there) in [(0, false), (1_000_000, true)] {
        let builder = MockExchange::builder().rate(1000).known_changes(known);
        let exchange = builder.start().await.unwrap();
        let book = exchange.book("btcusdt");
        let mut client = connect(&exchange, "btcusdt@depth").await;
        let first = ids(&many(&mut client, 200).await, "u")[0];
        assert_eq!(book.at(first).is_some(), is_there, "{known}");
        assert!(book.snapshot().await.is_ok());
    }
}

#[tokio::test]
async fn a_book_is_late_old_or_not_to_be_had_as_was_said() {
    let faults = DepthFaults { old_snapshots: 1.0, ..DepthFaults::default() };
    let exchange = MockExchange::builder().rate(1000).depth_faults(faults).start().await.unwrap();
    let book = exchange.book("btcusdt");
    let mut client = connect(&exchange, "btcusdt@depth").await;
    let seen = ids(&many(&mut client, 200).await, "u");
    let old: Value = serde_json::from_str(&book.snapshot().await.unwrap()).unwrap();
    let (number, now) = (old["lastUpdateId"].as_u64().unwrap(), *seen.last().unwrap());
    assert_eq!(serde_json::from_str::<Value>(&book.at(number).unwrap()).unwrap(), old);
    assert!(number < exchange.venue.find("btcusdt@depth").unwrap().book(History::number).unwrap());
    assert!(book.at(now).is_some() && book.at(u64::MAX).is_none() && book.at(1).is_none());

    let faults = DepthFaults { failed_snapshots: 1.0, ..DepthFaults::default() };
    let exchange = MockExchange::builder().depth_faults(faults).start().await.unwrap();
    assert!(exchange.book("btcusdt").snapshot().await.is_err());
    assert!(exchange.book("BTC/USDT").snapshot().await.is_err(), "no symbol");
}

#[tokio::test]
async fn an_unknown_name_is_accepted_and_silent() {
    let exchange = MockExchange::start().await.unwrap();
    let mut silent = connect(&exchange, "BTCUSDT@trade").await;
    let mut trades = connect(&exchange, "btcusdt@trade").await;
    many(&mut trades, 10).await;
    assert!(futures::poll!(silent.next()).is_pending());
    assert_eq!((exchange.sent("BTCUSDT@trade"), exchange.sockets()), (0, 2));
    assert_eq!(exchange.ledger("BTCUSDT@trade"), []);
    exchange.shutdown();
    assert!(next(&mut silent).await.is_none());
}

#[tokio::test]
async fn several_thousand_messages_per_second_are_kept_up_with() {
    let exchange = MockExchange::builder().rate(1000).start().await.unwrap();
    let names = ["a@trade", "b@trade", "c@depth", "d@depth", "e@bookTicker"];
    let start = Instant::now();
    let clients = names.map(|name| {
        let exchange = &exchange;
        async move { many(&mut connect(exchange, name).await, 500).await }
    });
    futures::future::join_all(clients).await;
    // Half a second's worth: with time to spare for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// Feeds an audit with what a client gets and `reader` makes of it, over a drop of all sockets.
async fn audited(mut reader: impl FnMut(&mut Vec<Heard>)) -> Audit {
    const NAME: &str = "btcusdt@depth";
    let exchange = MockExchange::builder().rate(1000).start().await.unwrap();
    let mut audit = exchange.audit(NAME);
    let mut heard = Vec::new();
    for _ in 0..2 {
        let mut client = connect(&exchange, NAME).await;
        let mut values = many(&mut client, 50).await;
        exchange.drop_sockets();
        values.extend(rest(&mut client).await);
        let numbers = ids(&values, "U").into_iter().zip(ids(&values, "u"));
        heard.extend(numbers.map(|(first, last)| Heard::Message(first..=last)));
        heard.push(Heard::Gap(Gap::Reconnected {
            down_for: Duration::ZERO,
            reason: DisconnectReason::Ended,
        }));
        while exchange.sent(NAME) < exchange.delivered(NAME) + 50 {
            tokio::task::yield_now().await;
        }
    }
    heard.pop();
    reader(&mut heard);
    for item in heard {
        match item {
            Heard::Message(numbers) => audit.item(Ok(numbers)),
            Heard::Gap(gap) => audit.item(Err(&StreamError::Gap(gap))),
        }
    }
    audit
}

#[derive(Clone)]
enum Heard {
    Gap(Gap),
    Message(RangeInclusive<u64>),
}

fn is_gap(heard: &Heard) -> bool {
    matches!(heard, Heard::Gap(_))
}

/// Takes out `index`, and tells how many numbers that were.
fn lose(heard: &mut Vec<Heard>, index: usize) -> u64 {
    match heard.remove(index) {
        Heard::Message(numbers) => numbers.end() - numbers.start() + 1,
        Heard::Gap(_) => panic!("a gap"),
    }
}

#[tokio::test]
async fn an_audit_acquits_a_reader_that_was_told_all() {
    let audit = audited(|_| {}).await;
    assert_eq!((audit.lost_silently(), audit.repeated(), audit.gaps()), (0, 0, 1));
    assert!(audit.messages() >= 100);

    // What is lost before a gap, it stands for; a late reader has lost nothing.
    let audit = audited(|heard| {
        let gap = heard.iter().position(is_gap).unwrap();
        lose(heard, gap - 1);
        lose(heard, 0);
    });
    assert_eq!(audit.await.lost_silently(), 0);

    let audit = audited(|heard| {
        lose(heard, 10);
        heard.insert(10, Heard::Gap(Gap::Lagged { missed: 1 }));
    });
    let audit = audit.await;
    assert_eq!((audit.lost_silently(), audit.gaps()), (0, 2));
}

#[tokio::test]
async fn an_audit_convicts_a_reader_that_lost_silently() {
    let mut lost = 0;
    let audit = audited(|heard| lost = lose(heard, 10) + lose(heard, 20)).await;
    assert_eq!((audit.lost_silently(), lost > 0), (lost, true), "two messages");

    let audit = audited(|heard| {
        let gap = heard.iter().position(is_gap).unwrap();
        lost = lose(heard, gap + 1);
    });
    assert_eq!(audit.await.lost_silently(), lost, "the first message of a socket");

    let audit = audited(|heard| heard.retain(|item| !is_gap(item))).await;
    assert!(audit.lost_silently() >= 50, "all between two sockets: {audit:?}");

    let audit = audited(|heard| {
        lost = lose(heard, 10);
        heard.insert(11, Heard::Gap(Gap::Lagged { missed: 1 }));
    });
    assert_eq!(audit.await.lost_silently(), lost, "a gap in another place");

    let audit = audited(|heard| heard.insert(5, heard[4].clone())).await;
    assert_eq!((audit.lost_silently(), audit.repeated()), (0, 1));
}

#[tokio::test]
async fn a_stream_that_is_forgotten_has_no_ledger_and_begins_anew() {
    let exchange = MockExchange::builder().rate(1000).start().await.unwrap();
    let mut old = connect(&exchange, "btcusdt@trade").await;
    let first = next(&mut old).await.unwrap()["t"].as_u64();
    exchange.forget("btcusdt@trade");
    assert!(exchange.ledger("btcusdt@trade").is_empty());
    let mut new = connect(&exchange, "btcusdt@trade").await;
    assert_eq!(next(&mut new).await.unwrap()["t"].as_u64(), first, "from its first number on");
    assert_eq!(exchange.server().sockets(), 2, "the old one is silent");
}
