//! What a reader gets: everything once and in order, or a gap in its place.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{FutureExt as _, join_all};
use futures::stream::{FusedStream as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::{
    CloseReason, Config, DecodeError, DisconnectReason, FromMessage, Gap, Message, RetryPolicy,
    Shared, Stamped, StreamError, Subscription, Text,
};

use crate::{MS, SECOND, config, end, gap, manager, manager_with, message, settle};

/// All that there is to read now, in words.
async fn items<T: FromMessage + ToString>(stream: &mut Subscription<T>) -> Vec<String> {
    let mut items = Vec::new();
    while let Ok(Some(item)) = time::timeout(MS, stream.next()).await {
        items.push(match item {
            Ok(value) => value.to_string(),
            Err(StreamError::Gap(Gap::Lagged { missed })) => format!("lagged {missed}"),
            Err(StreamError::Gap(Gap::Reconnected { .. })) => "reconnected".to_owned(),
            Err(StreamError::Closed(reason)) => reason.label().to_owned(),
            Err(StreamError::Decode(_)) => "decode".to_owned(),
            Err(other) => panic!("{other:?}"),
        });
    }
    items
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn lagged(missed: usize, rest: std::ops::Range<usize>) -> Vec<String> {
    [vec![format!("lagged {missed}")], numbers(rest)].concat()
}

/// Retries for ever, and does so soon.
fn persevering() -> Config {
    config().retry(RetryPolicy { max_delay: SECOND, ..RetryPolicy::forever() })
}

#[tokio::test(start_paused = true)]
async fn every_message_comes_in_order_and_once() {
    let (manager, mut server) = manager();
    let mut readers = [0; 3].map(|_| manager.subscribe::<Text>("x").unwrap());
    let peer = server.accept().await;
    for chunk in 0..100 {
        peer.send_all(numbers(chunk * 10..(chunk + 1) * 10));
        settle().await;
    }
    for reader in &mut readers {
        assert_eq!(items(reader).await, numbers(0..1000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_is_told_exactly_how_much_it_missed() {
    for buffer in [1, 2, 4, 1000] {
        let (manager, mut server) = manager_with(config().buffer(buffer));
        let mut stream = manager.subscribe::<Text>("x").unwrap();
        let peer = server.accept().await;
        let sent = 3 * buffer + 1;
        peer.send_all(numbers(0..sent));
        settle().await;
        assert_eq!(items(&mut stream).await, lagged(sent - buffer, sent - buffer..sent));
        peer.send_all(numbers(0..buffer));
        settle().await;
        assert_eq!(items(&mut stream).await, numbers(0..buffer), "just enough room");
        peer.send_all(numbers(0..buffer + 1));
        settle().await;
        assert_eq!(items(&mut stream).await, lagged(1, 1..buffer + 1), "one too many");
        let lost = (sent - buffer + 1) as u64;
        assert_eq!((manager.metrics().lagged, manager.metrics().gaps), (lost, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn readers_at_several_places_lag_each_by_its_own_count() {
    let (manager, mut server) = manager_with(config().buffer(4));
    let [mut stuck, mut slow, mut quick] = [0; 3].map(|_| manager.subscribe::<Text>("x").unwrap());
    let peer = server.accept().await;
    peer.send_all(numbers(0..4));
    settle().await;
    assert_eq!(slow.recv().await.unwrap().unwrap(), "0");
    assert_eq!(slow.recv().await.unwrap().unwrap(), "1");
    assert_eq!(items(&mut quick).await, numbers(0..4));
    peer.send_all(numbers(4..8));
    settle().await;
    assert_eq!(items(&mut quick).await, numbers(4..8));
    assert_eq!(items(&mut slow).await, lagged(2, 4..8));
    assert_eq!(items(&mut stuck).await, lagged(4, 4..8));
    assert_eq!(manager.metrics().lagged, 6);
    assert_eq!(manager.streams()[0].lagged, 6);
}

#[tokio::test(start_paused = true)]
async fn a_break_within_a_lag_comes_behind_it_and_is_not_counted() {
    let (manager, mut server) = manager_with(config().buffer(2));
    let mut stream = manager.subscribe::<Text>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(numbers(0..3));
    settle().await;
    drop(peer);
    server.accept().await.send_all(numbers(3..8));
    settle().await;
    let seen = items(&mut stream).await;
    assert_eq!(seen[..4], ["lagged 6", "reconnected", "6", "7"]);
    assert_eq!(manager.metrics().lagged, 6);
}

#[tokio::test(start_paused = true)]
async fn several_breaks_within_a_lag_are_one_with_the_time_of_all_and_the_last_reason() {
    let (manager, mut server) = manager_with(persevering().buffer(2));
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    let mut down = std::time::Duration::ZERO;
    for code in [4000, 4001, 4002] {
        peer.send_all(numbers(0..3));
        settle().await;
        peer.close(code, "again");
        let lost = Instant::now();
        settle().await;
        drop(peer);
        peer = server.accept().await;
        down += lost.elapsed();
    }
    peer.send_all(numbers(0..3));
    settle().await;
    assert_eq!(gap(&mut stream).await, Gap::Lagged { missed: 10 });
    let reason = DisconnectReason::Closed { code: Some(4002), reason: "again".into() };
    assert_eq!(gap(&mut stream).await, Gap::Reconnected { down_for: down, reason });
    assert_eq!(message(&mut stream).await, "1");
    assert_eq!(message(&mut stream).await, "2");
    assert!(stream.next().now_or_never().is_none());
    assert_eq!(manager.metrics().gaps, 3);
}

#[tokio::test(start_paused = true)]
async fn breaks_before_and_after_a_lag_stay_in_their_places() {
    let (manager, mut server) = manager_with(persevering().buffer(2));
    let mut stream = manager.subscribe::<Text>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(numbers(0..1));
    settle().await;
    assert_eq!(items(&mut stream).await, ["0"]);
    drop(peer); // The reader stands right before this break,
    let peer = server.accept().await;
    peer.send_all(numbers(1..5));
    settle().await;
    drop(peer); // has this one within the ring,
    let peer = server.accept().await;
    settle().await;
    drop(peer); // and this one with nothing between.
    let _peer = server.accept().await;
    settle().await;
    let expected = ["reconnected", "lagged 2", "3", "4", "reconnected", "reconnected"];
    assert_eq!(items(&mut stream).await, expected);
}

#[tokio::test(start_paused = true)]
async fn the_buffer_is_bounded_in_bytes_and_keeps_the_latest_whatever_its_size() {
    let (manager, mut server) = manager_with(config().buffer_bytes(10));
    let mut stream = manager.subscribe::<Text>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(["aaaa", "bbbb", "cccc", "dddd"]);
    settle().await;
    assert_eq!(items(&mut stream).await, ["lagged 2", "cccc", "dddd"]);
    let large = "x".repeat(100);
    peer.send_all(["aaaa", &large]);
    settle().await;
    assert_eq!(items(&mut stream).await, ["lagged 1", &large]);
    peer.send_all([&large, "a"]);
    settle().await;
    assert_eq!(items(&mut stream).await, ["lagged 1", "a"]);
    peer.send_all([""; 1000]);
    settle().await;
    assert_eq!(items(&mut stream).await.len(), 1000, "nothing weighs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_reader_holds_up_neither_another_reader_nor_the_socket() {
    let (manager, mut server) = manager();
    let [mut stuck, mut quick] = [0; 2].map(|_| manager.subscribe::<Text>("x").unwrap());
    let peer = server.accept().await;
    for chunk in 0..100 {
        peer.send_all(numbers(chunk * 100..(chunk + 1) * 100));
        settle().await;
        assert_eq!(items(&mut quick).await, numbers(chunk * 100..(chunk + 1) * 100));
    }
    assert!(stuck.status().is_open() && !server.has_dial());
    assert_eq!((stuck.lag(), quick.lag()), (10_000, 0));
    assert_eq!(items(&mut stuck).await, lagged(10_000 - 1024, 10_000 - 1024..10_000));
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_last_and_once_for_every_reader_wherever_it_is() {
    let (manager, mut server) = manager_with(config().buffer(4));
    let [mut stuck, mut slow, mut quick] = [0; 3].map(|_| manager.subscribe::<Text>("x").unwrap());
    let peer = server.accept().await;
    peer.send_all(numbers(0..4));
    settle().await;
    assert_eq!(slow.recv().await.unwrap().unwrap(), "0");
    items(&mut quick).await;
    peer.send_all(numbers(4..8));
    settle().await;
    manager.shutdown().await;
    let last = |mut items: Vec<String>| (items.pop().unwrap(), items);
    let shutdown = || "shutdown".to_owned();
    assert_eq!(last(items(&mut quick).await), (shutdown(), numbers(4..8)));
    let slow_items = [numbers(1..2), lagged(2, 4..8)].concat();
    assert_eq!(last(items(&mut slow).await), (shutdown(), slow_items));
    assert_eq!(last(items(&mut stuck).await), (shutdown(), lagged(4, 4..8)));
    for mut reader in [stuck, slow, quick] {
        assert!(reader.is_terminated());
        assert!(reader.recv().await.is_none() && reader.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_joiner_sees_what_comes_after() {
    let (manager, mut server) = manager();
    let mut early = manager.subscribe::<Text>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(numbers(0..3));
    settle().await;
    let mut late = manager.subscribe::<Text>("x").unwrap();
    assert_eq!(late.lag(), 0);
    peer.send_all(numbers(3..5));
    settle().await;
    assert_eq!(items(&mut late).await, numbers(3..5));
    assert_eq!(items(&mut early).await, numbers(0..5));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_an_error_in_its_place_and_counted_for_each_reader() {
    let (manager, mut server) = manager();
    let mut of_numbers = [0; 2].map(|_| manager.subscribe::<u64>("x").unwrap());
    let mut of_texts = manager.subscribe::<Text>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(["1", "one", "2", "{"]);
    settle().await;
    for reader in &mut of_numbers {
        assert_eq!(items(reader).await, ["1", "decode", "2", "decode"]);
        assert!(reader.status().is_open());
    }
    assert_eq!(items(&mut of_texts).await, ["1", "one", "2", "{"]);
    assert_eq!(manager.metrics().decode_errors, 4);
    peer.send("one");
    let Some(Err(StreamError::Decode(e))) = of_numbers[0].recv().await else { panic!() };
    assert_eq!(e.message().as_text(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn values_leave_out_notices_and_give_the_subscription_back() {
    let (manager, mut server) = manager_with(config().buffer(3));
    let mut values = manager.subscribe::<u64>("x").unwrap().values();
    let peer = server.accept().await;
    peer.send_all(["0", "1", "2", "no", "4"]);
    settle().await;
    drop(peer);
    let peer = server.accept().await;
    peer.send("5");
    settle().await;
    assert_eq!(values.next().await, Some(4));
    assert_eq!(values.next().await, Some(5));
    assert!(values.next().now_or_never().is_none());
    peer.send_all(["6", "x", "8"]);
    settle().await;
    assert_eq!(values.next().await, Some(6));
    let mut stream = values.into_inner();
    assert_eq!(items(&mut stream).await, ["decode", "8"]);
    manager.shutdown().await;
    let mut values = stream.values();
    assert_eq!(values.next().await, None);
    assert!(values.is_terminated());
}

#[tokio::test(start_paused = true)]
async fn readers_of_several_types_share_a_stream() {
    let (manager, mut server) = manager();
    let mut messages = manager.subscribe::<Message>("x").unwrap();
    let mut texts = manager.subscribe::<Text>("x").unwrap();
    let mut parsed = manager.subscribe::<Vec<u8>>("x").unwrap();
    let mut shared = manager.subscribe::<Shared<Vec<u8>>>("x").unwrap();
    let mut other = manager.subscribe::<Shared<serde_json::Value>>("x").unwrap();
    let mut stamped = manager.subscribe::<Stamped<Shared<Vec<u8>>>>("x").unwrap();
    let peer = server.accept().await;
    peer.send("[1,2]");
    peer.send(b"[3]".to_vec());
    settle().await;

    assert_eq!(message(&mut messages).await, "[1,2]");
    assert_eq!(messages.recv().await.unwrap().unwrap(), Message::binary(b"[3]".to_vec()));
    assert_eq!(texts.recv().await.unwrap().unwrap(), "[1,2]");
    assert!(matches!(texts.recv().await, Some(Err(StreamError::Decode(_)))), "binary is no text");
    for expected in [vec![1, 2], vec![3]] {
        assert_eq!(parsed.recv().await.unwrap().unwrap(), expected);
        let first = shared.recv().await.unwrap().unwrap().into_arc();
        assert_eq!(*first, expected);
        assert_eq!(other.recv().await.unwrap().unwrap().as_array().unwrap().len(), expected.len());
        let second = stamped.recv().await.unwrap().unwrap().value.into_arc();
        assert!(Arc::ptr_eq(&first, &second));
    }
    assert_eq!(manager.metrics().decode_errors, 1);
}

#[tokio::test(start_paused = true)]
async fn shared_values_are_parsed_once_for_all_readers() {
    static PARSED: AtomicUsize = AtomicUsize::new(0);
    struct Counted(usize);
    impl FromMessage for Counted {
        fn from_message(message: Message) -> Result<Self, DecodeError> {
            PARSED.fetch_add(1, Ordering::Relaxed);
            let parsed = message.as_text().unwrap().parse();
            parsed.map(Self).map_err(|e| DecodeError::new(e, message))
        }
    }
    let (manager, mut server) = manager();
    let mut readers: Vec<_> =
        (0..10).map(|_| manager.subscribe::<Shared<Counted>>("x").unwrap()).collect();
    let peer = server.accept().await;
    peer.send_all(numbers(0..20));
    peer.send("not a number");
    settle().await;
    for (i, reader) in readers.iter_mut().enumerate() {
        for n in 0..20 {
            assert_eq!(reader.recv().await.unwrap().unwrap().0, n);
        }
        assert!(matches!(reader.recv().await, Some(Err(StreamError::Decode(_)))));
        assert_eq!(PARSED.load(Ordering::Relaxed), 21, "after reader {i}");
    }
    assert_eq!(manager.metrics().decode_errors, 10);
}

#[tokio::test(start_paused = true)]
async fn stamps_tell_the_time_of_arrival_and_the_position() {
    let (manager, mut server) = manager_with(config().buffer(2));
    let mut stream = manager.subscribe::<Stamped<Text>>("x").unwrap();
    let peer = server.accept().await;
    let mut arrived = Vec::new();
    for n in 0..5 {
        time::sleep(SECOND).await;
        arrived.push(Instant::now());
        peer.send(n.to_string());
    }
    settle().await;
    let mut late = manager.subscribe::<Stamped<Text>>("x").unwrap();
    peer.send("5");
    time::sleep(SECOND).await;
    let Some(Err(StreamError::Gap(Gap::Lagged { missed: 4 }))) = stream.recv().await else {
        panic!()
    };
    let stamped = stream.recv().await.unwrap().unwrap();
    assert_eq!((stamped.seq, stamped.received_at), (4, arrived[4]));
    assert_eq!(stream.recv().await.unwrap().unwrap().seq, 5);
    assert_eq!(late.recv().await.unwrap().unwrap().seq, 5, "the stream's count, not the reader's");
}

#[tokio::test(start_paused = true)]
async fn a_decoder_that_panics_costs_one_message_of_one_reader() {
    #[derive(Debug)]
    struct Touchy(String);
    impl FromMessage for Touchy {
        fn from_message(message: Message) -> Result<Self, DecodeError> {
            let text = message.as_text().unwrap().to_owned();
            assert_ne!(text, "boo");
            Ok(Self(text))
        }
    }
    let (manager, mut server) = manager();
    let mut touchy = manager.subscribe::<Touchy>("x").unwrap();
    let mut shared = [0; 2].map(|_| manager.subscribe::<Shared<Touchy>>("x").unwrap());
    let mut calm = manager.subscribe::<Text>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(["a", "boo", "b"]);
    settle().await;
    assert_eq!(touchy.recv().await.unwrap().unwrap().0, "a");
    assert!(AssertUnwindSafe(touchy.recv()).catch_unwind().await.is_err());
    assert_eq!(touchy.recv().await.unwrap().unwrap().0, "b");
    for shared in &mut shared {
        assert_eq!(shared.recv().await.unwrap().unwrap().0, "a");
        assert!(AssertUnwindSafe(shared.recv()).catch_unwind().await.is_err());
        assert_eq!(shared.recv().await.unwrap().unwrap().0, "b");
    }
    assert_eq!(items(&mut calm).await, ["a", "boo", "b"]);
    peer.send("c");
    assert_eq!(touchy.recv().await.unwrap().unwrap().0, "c");
}

/// Reads until as many messages have come as were sent.
async fn read_to(mut stream: Subscription<Message>, sent: usize) {
    for n in 0..sent {
        let item = stream.recv().await.unwrap();
        assert!(item.is_ok(), "after {n} messages: {item:?}");
    }
    assert_eq!(stream.lag(), 0);
}

#[tokio::test]
async fn readers_that_keep_up_lose_nothing_at_saturation() {
    for (readers, sent) in [(1, 200_000), (10, 200_000), (100, 20_000)] {
        let (manager, mut server) = manager();
        let readers: Vec<_> = (0..readers)
            .map(|_| tokio::spawn(read_to(manager.subscribe("x").unwrap(), sent)))
            .collect();
        let peer = server.accept().await;
        let chunk = [const { Text::from_static("x") }; 1000];
        (0..sent / chunk.len()).for_each(|_| peer.send_all(chunk.clone()));
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(manager.metrics().lagged, 0);
    }
}

#[tokio::test]
async fn readers_in_the_runtimes_own_task_lose_nothing_at_saturation() {
    for (readers, sent) in [(1, 200_000), (100, 20_000)] {
        let (manager, mut server) = manager();
        let readers: Vec<_> =
            (0..readers).map(|_| read_to(manager.subscribe("x").unwrap(), sent)).collect();
        let peer = server.accept().await;
        let chunk = [const { Text::from_static("x") }; 1000];
        (0..sent / chunk.len()).for_each(|_| peer.send_all(chunk.clone()));
        join_all(readers).await;
        assert_eq!(manager.metrics().lagged, 0);
    }
}

#[tokio::test]
async fn a_reader_keeps_up_in_a_buffer_of_two_as_well() {
    let (manager, mut server) = manager_with(config().buffer(2));
    let reader = tokio::spawn(read_to(manager.subscribe("x").unwrap(), 10_000));
    server.accept().await.send_all(vec!["x"; 10_000]);
    reader.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn recv_may_be_cancelled_at_any_time() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Text>("x").unwrap();
    let peer = server.accept().await;
    let sending = tokio::spawn(async move {
        for n in 0..1000 {
            time::sleep(7 * MS).await;
            peer.send(n.to_string());
        }
        peer
    });
    let mut ticks = time::interval(3 * MS);
    let mut seen = Vec::new();
    while seen.len() < 1000 {
        tokio::select! {
            item = stream.recv() => seen.push(item.unwrap().unwrap().to_string()),
            _ = ticks.tick() => {}
        }
    }
    assert_eq!(seen, numbers(0..1000));
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lag_counts_what_has_come_and_was_not_read() {
    let (manager, mut server) = manager_with(config().buffer(8));
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    assert_eq!(stream.lag(), 0);
    let peer = server.accept().await;
    peer.send_all(numbers(0..5));
    settle().await;
    assert_eq!(stream.lag(), 5);
    message(&mut stream).await;
    assert_eq!(stream.lag(), 4);
    assert_eq!(manager.streams()[0].lag, 4);
    peer.send_all(numbers(5..20));
    settle().await;
    assert_eq!(stream.lag(), 19, "what was lost counts until the reader comes to it");
    for _ in 1..4 {
        message(&mut stream).await;
    }
    assert!(matches!(gap(&mut stream).await, Gap::Lagged { .. }));
    assert_eq!(stream.lag(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_breaks_unread_are_few_notices_that_leave_no_time_out() {
    let (manager, mut server) = manager_with(persevering());
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    let mut down = std::time::Duration::ZERO;
    for _ in 0..1000 {
        settle().await;
        drop(peer);
        settle().await;
        peer = server.accept().await;
        settle().await;
    }
    peer.send("up");
    settle().await;
    let mut gaps = 0;
    let last = loop {
        match stream.recv().await.unwrap() {
            Ok(message) => break message,
            Err(StreamError::Gap(Gap::Reconnected { down_for, .. })) => down += down_for,
            Err(other) => panic!("{other:?}"),
        }
        gaps += 1;
    };
    assert_eq!(last.as_text(), Some("up"));
    assert!((1..=100).contains(&gaps), "{gaps}");
    assert_eq!(manager.metrics().gaps, 1000);
    assert!(down > 100 * SECOND && down < 2000 * SECOND, "{down:?}");
    manager.shutdown().await;
    assert!(matches!(end(&mut stream).await, CloseReason::Shutdown));
}
