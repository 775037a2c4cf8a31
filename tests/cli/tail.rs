//! `wsmux tail`: what is printed where.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncBufReadExt as _;
use tokio::time::timeout;
use wsmux::test_util::{MockExchange, MockServer, Peer};

use crate::{Running, command, run, serving, within};

#[tokio::test]
async fn raw_is_payloads_on_stdout_and_notices_on_stderr() {
    let server = serving(|peer: Peer| async move {
        peer.send_all(["one", "t\x1b[31mwo"]).await;
        peer.send(vec![0xff, 0]).await;
    });
    let server = server.await;
    let ran = run(&["tail", &server.url(), "x", "--format", "raw", "--count", "3"]).await;
    assert_eq!(ran.stdout, b"one\nt\x1b[31mwo\n\xff\0\n");
    assert_eq!(ran.code, Some(0));
    // Which of its states are seen is a matter of time.
    assert!(ran.stderr.contains("  x  -- open"), "{ran:?}");
    assert!(!ran.stderr.contains('\x1b'), "no colours beside a terminal: {ran:?}");
}

#[tokio::test]
async fn json_is_a_line_per_message_and_the_messages_are_left_as_they_are() {
    let exchange = MockExchange::builder().rate(2000).start().await.unwrap();
    let url = exchange.url();
    let names = ["btcusdt@trade", "ethusdt@trade"];
    let ran = run(&["tail", "-f", "json", "-n", "500", &url, names[0], names[1]]).await;
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let lines = ran.json_lines();
    let (messages, notices): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["notice"].is_null());
    assert_eq!(messages.len(), 500);
    for name in names {
        let numbers: Vec<_> = messages
            .iter()
            .filter(|line| line["name"] == name)
            .map(|line| line["payload"]["t"].as_u64().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        assert!(notices.iter().any(|line| line["name"] == name && line["status"] == "open"));
    }
    let received = messages[0]["received"].as_str().unwrap();
    assert!(received.len() == 27 && received.ends_with('Z'), "{received}");
    within(exchange.server().until_sockets(0)).await;
}

#[tokio::test]
async fn what_a_server_sends_steers_no_terminal() {
    let hostile = "\x1b]52;c;eA==\x07\x1b[2J\r\nforged \u{9b}31m \u{202e}";
    let server = serving(move |peer: Peer| async move {
        peer.send(hostile).await;
        peer.send("{\"a\":\"\u{9b}\u{202e}\"}").await;
        peer.send(hostile.as_bytes().to_vec()).await;
        peer.close(4500, "\u{9b}2J\u{202e}").await;
    });
    let server = server.await;
    for format in ["pretty", "json"] {
        let ran = run(&["tail", "--format", format, "--color=never", &server.url(), "x"]).await;
        let shown = ran.shown();
        assert!(!shown.contains(['\x1b', '\x07', '\r', '\u{9b}', '\u{202e}']), "{shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("forged")), "{shown}");
        assert_eq!(ran.code, Some(1));
    }
}

#[tokio::test]
async fn colours_are_for_terminals_or_on_demand() {
    let server = serving(|peer: Peer| async move {
        peer.send("one").await;
    });
    let server = server.await;
    let url = server.url();
    let arguments = ["tail", "-n1", &url, "x"];
    assert!(!run(&arguments).await.shown().contains('\x1b'));
    assert!(run(&[&arguments[..], &["--color=always"]].concat()).await.shown().contains("\x1b["));
    for (variable, value, expected) in [("CLICOLOR_FORCE", "1", true), ("NO_COLOR", "1", false)] {
        let output = within(command(&arguments).env(variable, value).output()).await.unwrap();
        let coloured = output.stdout.contains(&0x1b);
        assert_eq!(coloured, expected, "{variable}: {output:?}");
    }
}

#[tokio::test]
async fn each_line_of_a_slow_feed_is_there_at_once() {
    let server = MockServer::start().await.unwrap();
    let mut tail = Running::start(&["tail", "-f", "raw", &server.url(), "x"]);
    let peer = within(server.accept()).await;
    for text in ["one", "two", "three"] {
        assert!(peer.send(text).await);
        assert_eq!(tail.line().await.trim_end(), text, "before anything else is sent");
    }
    tail.signal(Signal::INT);
    assert_eq!(tail.end().await.code, Some(0));
}

#[tokio::test]
async fn a_lost_socket_is_told_in_its_place() {
    let server = MockServer::start().await.unwrap();
    let mut tail = Running::start(&["tail", &server.url(), "x"]);
    let peer = within(server.accept()).await;
    peer.send("one").await;
    while !tail.line().await.contains("one") {}
    peer.close(1001, "going away").await;
    let peer = within(server.accept()).await;
    peer.send("two").await;
    let mut between = Vec::new();
    loop {
        match tail.line().await {
            line if line.contains("  two") => break,
            line => between.push(line),
        }
    }
    let between = between.concat();
    assert!(between.contains("-- waiting") && between.contains("-- gap: reconnected"), "{between}");
    assert!(between.contains("1001: going away"), "{between}");
    tail.signal(Signal::TERM);
    let ran = tail.end().await;
    assert!(ran.stderr.contains("2 messages") && ran.stderr.contains("1 reconnect"), "{ran:?}");
}

#[tokio::test]
async fn a_reader_that_stands_still_stops_no_socket_and_is_told_what_it_missed() {
    let server = MockServer::start().await.unwrap();
    let mut tail = Running::start(&["tail", "-f", "json", &server.url(), "x"]);
    let peer = within(server.accept()).await;
    // More than pipe, buffer and ring hold; the server gets rid of all of it all the same.
    let payload = format!("[{}]", "1,".repeat(500) + "1");
    let sent = 40_000;
    let all = std::iter::repeat_n(payload, sent);
    assert_eq!(within(peer.send_all(all)).await, sent);
    peer.send("\"last\"").await;
    let (mut messages, mut missed) = (0, 0);
    loop {
        let line: serde_json::Value = serde_json::from_str(&tail.line().await).unwrap();
        missed += line["missed"].as_u64().unwrap_or(0);
        messages += u64::from(line["notice"].is_null());
        if line["payload"] == "last" {
            break;
        }
    }
    assert!(missed > 0 && messages + missed == sent as u64 + 1, "{messages} + {missed}");
    tail.signal(Signal::INT);
    assert_eq!(tail.end().await.code, Some(0));
}

#[tokio::test]
async fn ctrl_c_ends_it_also_while_the_output_stands_still() {
    let server = MockServer::start().await.unwrap();
    let mut tail = Running::start(&["tail", "-f", "raw", &server.url(), "x"]);
    let peer = within(server.accept()).await;
    peer.send_all(std::iter::repeat_n("x".repeat(1000), 1000)).await;
    tail.line().await;
    tail.signal(Signal::INT);
    // Not a byte more is read until it has ended.
    let code = within(tail.child.wait()).await.unwrap().code();
    assert_eq!(code, Some(0));
    within(server.until_sockets(0)).await;
}

#[tokio::test]
async fn conflation_leaves_out_no_stream_at_the_end() {
    let server = serving(|peer: Peer| async move {
        peer.send("x".repeat(100_000)).await;
        peer.close(1000, "").await;
    });
    let server = server.await;
    let options = ["tail", "-f", "raw", "--conflate", "--retry=never"];
    let url = server.url();
    let tail = Running::start(&[&options[..], &[&url, "a", "b", "c", "d", "e", "f"]].concat());
    // All have ended before the first byte is read.
    within(server.until_sockets(0)).await;
    let ran = tail.end().await;
    assert_eq!((ran.code, ran.stdout.len()), (Some(0), 6 * 100_001), "{}", ran.stderr);
}

#[tokio::test]
async fn a_name_that_is_given_twice_is_one_stream() {
    let server = serving(|peer: Peer| async move {
        peer.send("once").await;
        peer.close(1000, "").await;
    });
    let server = server.await;
    let ran = run(&["tail", "-f", "raw", "--retry=never", &server.url(), "x", "x"]).await;
    assert_eq!((ran.code, &*ran.stdout), (Some(0), &b"once\n"[..]), "{ran:?}");
}

#[tokio::test]
async fn a_second_signal_waits_for_nothing() {
    let server = MockServer::start().await.unwrap();
    let mut tail = Running::start(&["tail", "-f", "raw", &server.url(), "x"]);
    let peer = within(server.accept()).await;
    // More than a pipe holds, and its start is there: so the output stands still.
    peer.send("x".repeat(1_000_000)).await;
    assert!(!within(tail.stdout.fill_buf()).await.unwrap().is_empty());
    // It would be given a second, and the summary come after it.
    let ended = async {
        loop {
            tail.signal(Signal::INT);
            if let Ok(end) = timeout(Duration::from_millis(20), tail.child.wait()).await {
                return end.unwrap();
            }
        }
    };
    assert_eq!(within(ended).await.code(), Some(0));
    assert_eq!(tail.end().await.stderr.matches(" s: ").count(), 0);
}

#[tokio::test]
async fn conflation_prints_the_latest_of_each_stream() {
    let server = MockServer::start().await.unwrap();
    let url = server.url();
    let arguments = ["tail", "-f", "raw", "--conflate", "--rate", "0.5", &url, "a", "b"];
    let mut tail = Running::start(&[&arguments[..], &["--stats=1h"]].concat());
    let peers = [within(server.accept()).await, within(server.accept()).await];
    for peer in &peers {
        let name = peer.path().trim_start_matches('/').to_owned();
        peer.send_all((0..1000).map(|n| format!("{name}{n}"))).await;
    }
    let mut lines = Vec::new();
    while lines.len() < 2 || lines.iter().filter(|line: &&String| line.ends_with("999")).count() < 2
    {
        lines.push(tail.line().await.trim_end().to_owned());
    }
    assert!(lines.len() <= 4, "{lines:?}");
    tail.signal(Signal::INT);
    let ran = tail.end().await;
    assert!(ran.stderr.contains("2000 messages") && ran.stderr.contains("left out"), "{ran:?}");
}

#[tokio::test]
async fn a_rate_leaves_messages_out_and_says_so() {
    let exchange = MockExchange::builder().rate(1000).start().await.unwrap();
    let url = exchange.url();
    let arguments =
        ["tail", "-f", "raw", "--rate=10", "--for=1s", "--stats", &url, "btcusdt@trade"];
    let ran = run(&arguments).await;
    assert_eq!(ran.code, Some(0));
    let lines = ran.text().lines().count();
    assert!((1..=12).contains(&lines), "{lines} lines in a second");
    assert!(ran.stderr.contains("left out") && ran.stderr.contains("apart p50"), "{ran:?}");
}

#[tokio::test]
async fn stats_are_objects_among_json_lines() {
    let exchange = MockExchange::builder().rate(1000).start().await.unwrap();
    let url = exchange.url();
    let arguments = ["tail", "-f", "json", "--stats=200ms", "--for=1s", &url, "btcusdt@trade"];
    let ran = run(&arguments).await;
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let lines = ran.json_lines();
    let stats: Vec<_> = lines.iter().filter(|line| line["notice"] == "stats").collect();
    assert!(stats.len() >= 2, "{stats:?}");
    let total = stats.last().unwrap();
    let messages = lines.iter().filter(|line| line["notice"].is_null()).count();
    assert_eq!((&total["messages"], &total["left_out"]), (&messages.into(), &0.into()));
    assert!(total["apart_us"]["p99"].is_u64() && lines.last().unwrap() == *total);
}
