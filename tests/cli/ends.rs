//! What the program ends with, and what it says then.

use rustix::process::Signal;
use tokio::net::TcpListener;
use wsmux::test_util::{Answer, Certificate, MockExchange, MockServer, Peer};

use crate::{Running, run, serving, within};

/// Code and words of a run with these arguments behind `tail`.
async fn tailed(arguments: &[&str]) -> (Option<i32>, String) {
    let ran = run(&[&["tail", "--format=raw"], arguments].concat()).await;
    assert!(ran.stdout.is_empty(), "{ran:?}");
    (ran.code, ran.stderr)
}

async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("ws://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn signals_end_it_well_with_a_summary() {
    for signal in [Signal::INT, Signal::TERM] {
        let exchange = MockExchange::start().await.unwrap();
        let mut tail = Running::start(&["tail", &exchange.url(), "btcusdt@trade"]);
        while !tail.line().await.contains("\"e\":\"trade\"") {}
        tail.signal(signal);
        let ran = tail.end().await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains(" s: ") && ran.stderr.contains("message"), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        within(exchange.server().until_sockets(0)).await;
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_quietly() {
    let exchange = MockExchange::start().await.unwrap();
    let mut tail = Running::start(&["tail", "-f", "json", &exchange.url(), "btcusdt@trade"]);
    tail.line().await;
    drop(tail.stdout);
    let output = within(tail.child.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    within(exchange.server().until_sockets(0)).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn output_that_cannot_be_written_is_an_error() {
    let exchange = MockExchange::start().await.unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = crate::command(&["tail", &exchange.url(), "btcusdt@trade"]);
    let tail = command.stdout(full).spawn().unwrap();
    let output = within(tail.wait_with_output()).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error: cannot write the output"), "{stderr}");
}

#[tokio::test]
async fn where_no_connection_is_made_it_is_3() {
    let url = closed_port().await;
    let (code, stderr) = tailed(&["--retry=never", &url, "x"]).await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(
        stderr.contains("error: x: gave up after 1 failed") && stderr.contains("hint: nothing")
    );

    let nowhere = format!("ws://{}.invalid", "x".repeat(64));
    let (code, stderr) = tailed(&["--retry=0", &nowhere, "x"]).await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("cannot be resolved"), "{stderr}");

    let server = MockServer::builder().tls(Certificate::Valid).start().await.unwrap();
    let (code, stderr) = tailed(&[&server.url(), "x"]).await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("--ca"), "{stderr}");
}

#[tokio::test]
async fn where_the_server_refuses_it_is_4() {
    for (status, words) in [(401, "credentials"), (404, "path and name"), (302, "redirects")] {
        let server = MockServer::start().await.unwrap();
        server.set_answer("/", Answer::status(status));
        let (code, stderr) = tailed(&[&server.url(), "x"]).await;
        assert_eq!(code, Some(4), "{stderr}");
        assert!(stderr.contains(words), "{status}: {stderr}");
    }
    let server = MockServer::start().await.unwrap();
    server.set_answer("/", Answer::WrongAccept);
    assert_eq!(tailed(&[&server.url(), "x"]).await.0, Some(4));
}

#[tokio::test]
async fn where_a_stream_is_lost_for_good_it_is_1() {
    let server = serving(|peer: Peer| async move { peer.fin() }).await;
    let (code, stderr) = tailed(&["--retry=never", &server.url(), "x"]).await;
    assert_eq!(code, Some(1), "{stderr}");
    let ran = tailed(&["--retry", "2", &server.url(), "x"]).await;
    assert_eq!(ran.0, Some(1), "{ran:?}");
    assert_eq!(server.dials(), 1 + 3);
}

#[tokio::test]
async fn a_feed_that_is_over_and_not_to_be_retried_is_0() {
    let server = serving(|peer: Peer| async move {
        peer.send("all").await;
        peer.close(1000, "").await;
    });
    let server = server.await;
    let ran = run(&["tail", "-f", "raw", "--retry=never", &server.url(), "x"]).await;
    assert_eq!((ran.code, &*ran.stdout), (Some(0), &b"all\n"[..]), "{ran:?}");
}

#[tokio::test]
async fn one_stream_that_ends_does_not_end_the_others() {
    let server = serving(|peer: Peer| async move { while peer.send("tick").await {} });
    let server = server.await;
    server.set_answer("/bad", Answer::status(404));
    let arguments = ["tail", "-f", "raw", "--for", "2s", &server.url(), "good", "bad"];
    let ran = run(&arguments).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stdout.starts_with(b"tick\n") && ran.stderr.contains("error: bad:"), "{ran:?}");
}

#[tokio::test]
async fn a_time_limit_without_a_connection_is_3_and_with_one_0() {
    let (code, stderr) = tailed(&["--for", "300ms", &closed_port().await, "x"]).await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("no connection within the time"), "{stderr}");
    let server = MockServer::start().await.unwrap();
    assert_eq!(tailed(&["--for", "2s", &server.url(), "x"]).await.0, Some(0));
}

#[tokio::test]
async fn what_makes_no_sense_is_2_and_names_the_way_out() {
    for (arguments, words) in [
        (&["tail", "ws://h"][..], "<NAME>"),
        (&["tail", "https://h/", "x"], "write `wss://host/path`"),
        (&["tail", "ws://h/", ".."], "steps in a path"),
        (&["tail", "ws://h/", "a\nb"], "control character"),
        (&["tail", "ws://h", "x", "--rate", "0"], "0.001"),
        (&["tail", "ws://h", "x", "--for", "x"], "`250ms`"),
        (&["tail", "ws://h", "x", "--retry", "often"], "forever"),
        (&["tail", "ws://h", "x", "--header", "x"], "`Name: value`"),
        (&["tail", "ws://h", "x", "--header", "@/nowhere"], "cannot read"),
        (&["tail", "ws://h", "x", "--ca", "Cargo.toml"], "BEGIN CERTIFICATE"),
        (&["doctor", "host/path", "x"], "wss://"),
        (&["ws://h/ws", "x"], "wsmux tail"),
        (&["tial"], "tail"),
        (&[], "Usage"),
    ] {
        let ran = run(arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.is_empty() && !ran.stderr.contains("panicked"), "{ran:?}");
    }
}

#[tokio::test]
async fn help_and_version_are_answers() {
    for arguments in [&["--help"][..], &["tail", "--help"], &["help", "doctor"], &["-V"]] {
        let ran = run(arguments).await;
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
        assert!(ran.text().contains("wsmux"), "{ran:?}");
        assert!(ran.text().lines().all(|line| line.chars().count() <= 100), "{}", ran.text());
    }
}
