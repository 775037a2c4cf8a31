//! Binance's combined streams: the whole client against the server's mock, with paused time.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::time::{self, Instant};
use wsmux::protocol::BinanceCombined;
use wsmux::test_util::{Mock, MockBinance};
use wsmux::{
    CloseReason, Gap, Limiter, Message, ResyncPolicy, Resynced, StreamError, Subscription,
    WsManager,
};

use crate::{MINUTE, MS, SECOND, config, end, gap, message, settle};

const HOUR: Duration = Duration::from_secs(3600);

fn with(protocol: BinanceCombined, mock: MockBinance) -> (Mock<MockBinance>, WsManager) {
    let (mock, transport) = Mock::in_memory(mock);
    let builder = WsManager::builder(protocol).config(config()).transport(transport).seed(7);
    (mock, builder.limiter(Limiter::new()).build().unwrap())
}

fn spot() -> (Mock<MockBinance>, WsManager) {
    with(BinanceCombined::spot(), MockBinance::spot())
}

async fn joined<const N: usize>(
    manager: &WsManager,
    names: [&str; N],
) -> [Subscription<Message>; N] {
    let mut streams = names.map(|name| manager.subscribe(name).unwrap());
    for stream in &mut streams {
        stream.ready().await.unwrap();
    }
    streams
}

fn next(mock: &Mock<MockBinance>, name: &str) -> String {
    mock.tell(|binance, out| binance.next(name, out))
}

fn requests(mock: &Mock<MockBinance>) -> Vec<(String, Vec<String>)> {
    let requests = mock.tell(|binance, _| binance.requests());
    requests.into_iter().map(|(_, method, names)| (method, names)).collect()
}

/// What has come for this reader and was not read.
fn items(stream: &mut Subscription<Message>) -> Vec<Result<String, Gap>> {
    let next = |stream: &mut Subscription<Message>| {
        tokio::task::unconstrained(stream.next()).now_or_never().flatten()
    };
    let items = std::iter::from_fn(|| next(stream));
    let item = |item| match item {
        Ok(message) => Ok(Message::as_text(&message).unwrap().to_owned()),
        Err(StreamError::Gap(gap)) => Err(gap),
        Err(e) => panic!("{e}"),
    };
    items.map(item).collect()
}

fn no_faults(mock: &Mock<MockBinance>) {
    assert_eq!(mock.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn names_share_a_socket_and_each_gets_its_own_payloads() {
    let (mock, manager) = spot();
    let [mut trades, mut books] = joined(&manager, ["a@trade", "b@depth"]).await;
    assert_eq!((mock.opened(), requests(&mock)), (1, vec![]), "the URL has joined both");
    let (trade, book) = (next(&mock, "a@trade"), next(&mock, "b@depth"));
    assert_eq!((message(&mut trades).await, message(&mut books).await), (trade, book));
    let [mut later] = joined(&manager, ["c@trade"]).await;
    assert_eq!(requests(&mock), [("SUBSCRIBE".to_owned(), vec!["c@trade".to_owned()])]);
    let trade = next(&mock, "c@trade");
    assert_eq!(message(&mut later).await, trade);
    drop(trades);
    settle().await;
    assert_eq!(mock.tell(|binance, _| binance.names()), [["b@depth", "c@trade"]]);
    assert_eq!(manager.metrics().unroutable, 0);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn names_of_futures_are_asked_for_where_they_are_served() {
    let (mock, manager) = with(BinanceCombined::usd_m(), MockBinance::usd_m());
    let names = ["a@depth", "a@aggTrade", "b@trade", "b@markPrice@1s"];
    let mut streams = joined(&manager, names).await;
    assert_eq!(mock.opened(), 2, "one for each path");
    for (stream, name) in streams.iter_mut().zip(names) {
        let payload = next(&mock, name);
        assert_eq!(message(stream).await, payload);
    }
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_refused_leaves_its_neighbours_alone() {
    for without_id in [false, true] {
        let (mock, manager) = spot();
        let [mut old] = joined(&manager, ["a@trade"]).await;
        mock.tell(|binance, _| {
            binance.refuse("c3@trade", "Invalid request: c3");
            binance.without_id(without_id);
        });
        let names: Vec<_> = (0..8).map(|n| format!("c{n}@trade")).collect();
        let mut streams: Vec<_> =
            names.iter().map(|name| manager.subscribe::<Message>(name).unwrap()).collect();
        for (stream, name) in streams.iter_mut().zip(&names) {
            if name == "c3@trade" {
                let CloseReason::Rejected { reason } = end(stream).await else { panic!() };
                assert_eq!(&*reason, "Invalid request: c3");
                continue;
            }
            stream.ready().await.unwrap();
            let trade = next(&mock, name);
            assert_eq!(message(stream).await, trade);
        }
        let trade = next(&mock, "a@trade");
        assert_eq!(message(&mut old).await, trade);
        assert_eq!((mock.opened(), requests(&mock).len()), (1, 7));
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_is_one_gap_for_each_name_and_numbers_that_went_by_are_none() {
    let (mock, manager) = spot();
    let names = ["a@trade", "a@depth", "b@bookTicker"];
    let mut streams = joined(&manager, names).await;
    for name in names {
        next(&mock, name);
    }
    settle().await;
    mock.drop_all();
    mock.tell(|binance, _| names.iter().for_each(|name| binance.skip(name)));
    time::sleep(MINUTE).await;
    let after = names.map(|name| next(&mock, name));
    settle().await;
    for (stream, after) in streams.iter_mut().zip(after) {
        let items = items(stream);
        let [Ok(_), Err(Gap::Reconnected { .. }), Ok(last)] = &items[..] else {
            panic!("{items:?}")
        };
        assert_eq!(*last, after);
    }
    assert_eq!(mock.opened(), 2);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_a_feed_is_a_gap_in_its_place_and_nobody_elses() {
    let (mock, manager) = spot();
    let [mut trades, mut books, mut others] =
        joined(&manager, ["a@trade", "a@depth", "b@trade"]).await;
    let before = ["a@trade", "a@depth", "b@trade"].map(|name| next(&mock, name));
    mock.tell(|binance, _| {
        (0..3).for_each(|_| binance.skip("a@trade"));
        binance.skip("a@depth");
    });
    let after = ["a@trade", "a@depth", "b@trade"].map(|name| next(&mock, name));
    settle().await;
    let hole = |missed| Err(Gap::Sequence { missed });
    let of = |n: usize| (Ok(before[n].clone()), Ok(after[n].clone()));
    assert_eq!(items(&mut trades), [of(0).0, hole(Some(3)), of(0).1]);
    assert_eq!(items(&mut books), [of(1).0, hole(None), of(1).1]);
    assert_eq!(items(&mut others), [of(2).0, of(2).1]);
}

#[derive(Debug, Deserialize)]
struct Change {
    #[serde(rename = "U")]
    first: u64,
    #[serde(rename = "u")]
    last: u64,
    #[serde(default)]
    pu: u64,
}

/// What a book's reader gets when one update is missing, and then the socket is lost.
async fn book_through_holes(
    (mock, manager): (Mock<MockBinance>, WsManager),
    policy: ResyncPolicy<u64, Change>,
) -> String {
    let book = manager.subscribe::<Change>("a@depth").unwrap();
    let at = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let last = std::sync::Arc::clone(&at);
    let snapshot = move || {
        let last = last.load(std::sync::atomic::Ordering::Relaxed);
        async move { Ok::<_, std::io::Error>(last) }
    };
    let mut book = book.resync(snapshot, policy);
    let mut story = String::new();
    for step in 0..60 {
        let payload = match step {
            20 => {
                mock.tell(|binance, _| binance.skip("a@depth"));
                next(&mock, "a@depth")
            }
            40 => {
                mock.drop_all();
                time::sleep(MINUTE).await;
                next(&mock, "a@depth")
            }
            _ => next(&mock, "a@depth"),
        };
        let change: Change = serde_json::from_str(&payload).unwrap();
        at.store(change.last, std::sync::atomic::Ordering::Relaxed);
        time::sleep(100 * MS).await;
        while let Some(Some(item)) = book.recv().now_or_never() {
            match item {
                Ok(Resynced::Snapshot(_)) => story.push('S'),
                Ok(Resynced::Update(_)) if story.ends_with('u') => {}
                Ok(Resynced::Update(_)) => story.push('u'),
                Err(StreamError::Gap(Gap::Sequence { .. })) => story.push('?'),
                Err(StreamError::Gap(Gap::Reconnected { .. })) => story.push('!'),
                Err(e) => panic!("{e}"),
            }
        }
    }
    no_faults(&mock);
    story
}

#[tokio::test(start_paused = true)]
async fn a_book_gets_one_gap_for_each_hole() {
    let numbered = ResyncPolicy::numbered(|s: &u64| *s, |c: &Change| c.first..=c.last);
    assert_eq!(book_through_holes(spot(), numbered).await, "Su?Su!Su");
    let usd_m = with(BinanceCombined::usd_m(), MockBinance::usd_m());
    let chained = ResyncPolicy::chained(|s: &u64| *s, |c: &Change| c.pu, |c: &Change| c.last);
    assert_eq!(book_through_holes(usd_m, chained).await, "Su?Su!Su");
}

/// Says something on each name every so often, for a while.
async fn say(
    mock: &Mock<MockBinance>,
    names: &[&str],
    each: Duration,
    count: usize,
) -> Vec<Vec<String>> {
    let mut said = vec![Vec::new(); names.len()];
    for _ in 0..count {
        for (said, name) in said.iter_mut().zip(names) {
            said.push(next(mock, name));
        }
        time::sleep(each).await;
    }
    said
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_that_it_goes_costs_nobody_a_message() {
    let (mock, manager) = spot();
    let names = ["a@trade", "a@depth", "b@aggTrade", "b@bookTicker"];
    let mut streams = joined(&manager, names).await;
    let mut said = say(&mock, &names, SECOND, 70).await;
    mock.tell(|binance, out| binance.shut_down(out));
    for (said, more) in said.iter_mut().zip(say(&mock, &names, 50 * MS, 400).await) {
        said.extend(more);
    }
    assert_eq!((mock.opened(), mock.sockets().len()), (2, 1), "another has taken over");
    for (stream, said) in streams.iter_mut().zip(said) {
        let expected: Vec<_> = said.into_iter().map(Ok).collect();
        assert!(items(stream) == expected, "{:?}", stream.name());
    }
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_tells_each_socket_to_go_is_not_dialled_without_end() {
    let (mock, manager) = spot();
    let [_stream] = joined(&manager, ["a@trade"]).await;
    for _ in 0..600 {
        mock.tell(|binance, out| binance.shut_down(out));
        next(&mock, "a@trade");
        time::sleep(100 * MS).await;
    }
    assert!((2..=20).contains(&mock.opened()), "{} dials in a minute", mock.opened());
}

#[tokio::test(start_paused = true)]
async fn a_socket_is_replaced_before_its_24_hours_are_over_and_nobody_notices() {
    let (mock, manager) = spot();
    let names = ["a@trade", "a@depth"];
    let mut streams = joined(&manager, names).await;
    let mut said = [0; 2];
    for _ in 0..50 * 60 {
        for (said, more) in said.iter_mut().zip(say(&mock, &names, MINUTE, 1).await) {
            *said += more.len();
        }
    }
    let mut got = [0; 2];
    for (stream, got) in streams.iter_mut().zip(&mut got) {
        // More than a ring holds: a lag is the only gap.
        for item in items(stream) {
            match item {
                Ok(_) => *got += 1,
                Err(Gap::Lagged { missed }) => *got += usize::try_from(missed).unwrap(),
                Err(gap) => panic!("{gap}"),
            }
        }
    }
    assert_eq!(got, said);
    assert!((3..=4).contains(&mock.opened()), "{} sockets in 50 hours", mock.opened());
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn two_thousand_names_take_two_sockets() {
    let (mock, manager) = spot();
    let start = Instant::now();
    let mut streams: Vec<Subscription<Message>> =
        (0..2000).map(|n| manager.subscribe(format!("sym{n}usdt@trade")).unwrap()).collect();
    for stream in &mut streams {
        stream.ready().await.unwrap();
    }
    println!("2,000 names: {} sockets, joined in {:?}", mock.opened(), start.elapsed());
    assert_eq!(mock.opened(), 2);
    let names = mock.tell(|binance, _| binance.names());
    assert_eq!(names.iter().map(Vec::len).collect::<Vec<_>>(), [1024, 976]);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_1024_names_is_joined_within_the_budget_of_five_frames_a_second() {
    for in_url in [true, false] {
        let protocol = BinanceCombined::spot();
        let protocol = if in_url { protocol } else { protocol.no_names_in_url() };
        let (mock, manager) = with(protocol, MockBinance::spot());
        let start = Instant::now();
        let mut streams: Vec<Subscription<Message>> =
            (0..1024).map(|n| manager.subscribe(format!("sym{n}usdt@aggTrade")).unwrap()).collect();
        for stream in &mut streams {
            stream.ready().await.unwrap();
        }
        let (took, asked) = (start.elapsed(), requests(&mock).len());
        println!("1,024 names, in the URL: {in_url}: {took:?}, {asked} messages, no violation");
        assert!(took <= 2 * SECOND && asked <= 8, "{took:?} {asked}");
        time::sleep(HOUR).await; // Pings are answered, with what they had.
        no_faults(&mock);
        assert_eq!(mock.opened(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_notices_what_a_client_does_wrong() {
    let (mock, manager) = with(BinanceCombined::spot().no_names_in_url(), MockBinance::spot());
    let [_stream] = joined(&manager, ["a@trade"]).await;
    let rude = r#"{"method":"SUBSCRIBE","params":["a@trade"],"id":1}"#.to_owned();
    let long = format!(r#"{{"method":"{}","id":1}}"#, "x".repeat(4088));
    for text in [rude, r#"{"method":"UNSUBSCRIBE","params":["z@trade"],"id":2}"#.into(), long] {
        let _ = manager.send("a@trade", text).await;
        time::sleep(SECOND).await;
    }
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    let expected = [
        "a@trade is asked for twice",
        "z@trade is left and was not asked for",
        "a message of 4108 bytes",
    ];
    assert_eq!(what, expected);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_closed_for_too_many_requests_is_dialled_again_after_five_seconds() {
    let (mock, manager) = spot();
    let [mut trades] = joined(&manager, ["a@trade"]).await;
    mock.close_all(1008, "Too many requests");
    assert!(
        matches!(gap(&mut trades).await, Gap::Reconnected { down_for, .. } if down_for >= 5 * SECOND)
    );
}
