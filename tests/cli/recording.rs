//! `wsmux record` and `wsmux replay`: a day in a file, and printed again.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use wsmux::record::{End, Recording};
use wsmux::test_util::{MockServer, Peer};

use crate::{Running, run, serving, within};

/// A file that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let file = format!("wsmux-cli-{name}-{}.rec", std::process::id());
        Self(std::env::temp_dir().join(file))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Waits until the file has so many messages: nothing tells of that, so it looks again and again.
async fn until(file: &Scratch, messages: u64) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    within(async {
        while Recording::open(file.path()).map_or(0, |recording| recording.messages()) < messages {
            looks.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_recorded_until_ctrl_c_is_printed_again() {
    let file = Scratch::new("again");
    let server = MockServer::start().await.unwrap();
    let record = Running::start(&["record", "-o", file.path(), &server.url(), "x", "x"]);
    let peer = within(server.accept()).await;
    peer.send_all(["{\"n\": 1}", "two"]).await;
    peer.send(vec![0xff, 0]).await;
    peer.close(1001, "deploy").await;
    let peer = within(server.accept()).await;
    peer.send("after").await;
    until(&file, 4).await;
    record.signal(Signal::INT);
    let ran = record.end().await;
    assert_eq!((ran.code, &*ran.stdout), (Some(0), &b""[..]), "{ran:?}");
    assert!(ran.stderr.contains("1 stream, 4 messages, 1 gap"), "{ran:?}");
    assert!(!ran.stderr.contains('\r'), "no progress beside a terminal: {ran:?}");
    assert_eq!(Recording::open(file.path()).unwrap().end(), End::Finished);

    let ran = run(&["replay", "--speed", "max", "--format", "json", file.path()]).await;
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let lines = ran.json_lines();
    let payloads: Vec<_> = lines.iter().map(|line| line["payload"].to_string()).collect();
    assert_eq!(payloads, ["{\"n\":1}", "\"two\"", "\"/wA=\"", "null", "\"after\""]);
    assert_eq!((&lines[3]["gap"], &lines[3]["reason"]), (&"reconnected".into(), &"closed".into()));
    let wall = lines[0]["received"].as_str().unwrap();
    let started = Recording::open(file.path()).unwrap().started().unwrap();
    let year = 1970 + started.elapsed().unwrap().as_secs() / 1_000_000_000;
    assert!(wall.len() == 27 && wall[..4].parse::<u64>().unwrap() >= year, "{wall}");
    let raw = run(&["replay", "--speed", "100", "-f", "raw", "-n2", file.path(), "x"]).await;
    assert_eq!(raw.stdout, b"{\"n\": 1}\ntwo\n");
}

#[tokio::test]
async fn a_recorder_that_is_killed_leaves_what_came_and_goes_on_with_append() {
    let file = Scratch::new("killed");
    let server = serving(|peer: Peer| async move {
        peer.send("one").await;
    });
    let server = server.await;
    let url = server.url();
    let arguments = ["record", "-o", file.path(), &url, "x"];
    let record = Running::start(&arguments);
    until(&file, 1).await;
    record.signal(Signal::KILL);
    assert_eq!(record.end().await.code, None);
    let again = run(&arguments).await;
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("--append"), "{again:?}");
    let record = Running::start(&[&arguments[..], &["--append"]].concat());
    until(&file, 2).await;
    record.signal(Signal::TERM);
    assert_eq!(record.end().await.code, Some(0));
    let recording = Recording::open(file.path()).unwrap();
    assert_eq!((recording.messages(), recording.gaps()), (2, 1));
}

#[tokio::test]
async fn how_it_ended_is_an_exit_code() {
    let file = Scratch::new("codes");
    let server = MockServer::start().await.unwrap();
    let url = server.url();
    let record = ["record", "--retry", "never", "--for", "30s", "-o", file.path()];
    let running = Running::start(&[&record[..], &[&url, "x"]].concat());
    let peer = within(server.accept()).await;
    peer.send("one").await;
    peer.close(4500, "over").await;
    let ran = running.end().await;
    assert_eq!(ran.code, Some(1), "lost for good: {ran:?}");
    let ran = run(&["replay", "--speed", "max", "--color=never", file.path()]).await;
    assert_eq!(ran.code, Some(0));
    assert!(ran.text().contains("  x  one") && ran.text().contains("-- closed: "), "{ran:?}");
    let nobody = Scratch::new("nobody");
    let ran =
        run(&["record", "--retry=never", "-o", nobody.path(), "ws://127.0.0.1:1/", "x"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let ran = run(&["record", "-o", "/nowhere/at/all", &url, "x"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let ran = run(&["replay", file.path(), "y"]).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("it has x"), "{ran:?}");
}

#[tokio::test]
async fn a_file_that_is_torn_damaged_or_something_else_is_told() {
    let file = Scratch::new("damaged");
    let server = serving(|peer: Peer| async move {
        peer.send_all((0..100).map(|n| n.to_string())).await;
    });
    let server = server.await;
    let record = Running::start(&["record", "-o", file.path(), &server.url(), "x"]);
    until(&file, 100).await;
    record.signal(Signal::INT);
    record.end().await;
    let bytes = std::fs::read(file.path()).unwrap();
    let replay = ["replay", "--speed=max", "-f=raw", file.path()];
    std::fs::write(file.path(), &bytes[..bytes.len() - 30]).unwrap();
    let torn = run(&replay).await;
    assert_eq!(torn.code, Some(0));
    assert!(torn.text().starts_with("0\n1\n") && torn.stderr.contains("torn off"), "{torn:?}");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    std::fs::write(file.path(), flipped).unwrap();
    let damaged = run(&replay).await;
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.text().starts_with("0\n1\n") && damaged.stderr.contains("damaged at byte"));
    std::fs::write(file.path(), "something else, and long enough").unwrap();
    let other = run(&replay).await;
    assert!(other.code == Some(2) && other.stderr.contains("not a recording"), "{other:?}");
}

#[tokio::test]
async fn a_file_that_cannot_grow_ends_it_with_an_error() {
    let file = Scratch::new("full");
    let server = serving(|peer: Peer| async move { while peer.send("x".repeat(10_000)).await {} });
    let server = server.await;
    let program = env!("CARGO_BIN_EXE_wsmux");
    // The signal is what a limit sends; ignored, writing fails as on a disk that is full.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec {program} record -o {} {} x",
        file.path(),
        server.url()
    );
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", &script]).kill_on_drop(true);
    let output = within(shell.output()).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot be written"), "{stderr}");
    assert!(Recording::open(file.path()).unwrap().messages() > 1);
}
