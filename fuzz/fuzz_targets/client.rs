//! A whole client whose first two servers say anything: every stream ends, with a reason, in bounded
//! time, whatever wait the servers ask for, and no task is left behind.

#![no_main]

use std::time::Duration;

use futures::StreamExt as _;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use wsmux::protocol::Direct;
use wsmux::transport::{Script, Scripts, Tungstenite};
use wsmux::{Config, Event, Limiter, Message, RetryPolicy, StreamError, WsManager};
use wsmux_fuzz::{MAX_MESSAGE, parts, run};

/// What a server may ask for at most, and what the dials and the policy's own delays take.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const SLACK: Duration = Duration::from_secs(60);

fuzz_target!(|input: &[u8]| {
    let Some((pieces, bytes)) = parts(input) else { return };
    let (first, second) = match bytes.windows(4).position(|four| four == b"----") {
        Some(at) => (&bytes[..at], &bytes[at + 4..]),
        None => (bytes, &[][..]),
    };
    let scripts = [first, second].map(|bytes| {
        let script =
            if bytes.starts_with(b"HTTP") { Script::new(bytes) } else { Script::frames(bytes) };
        script.pieces(pieces)
    });
    run(read(scripts));
});

async fn read(scripts: [Script; 2]) {
    let transport = Scripts::new(Tungstenite::new().no_proxy().max_message(MAX_MESSAGE), scripts);
    let retry = RetryPolicy { max_attempts: Some(2), ..RetryPolicy::default() };
    let manager = WsManager::builder(Direct::new("ws://host/ws").unwrap())
        .config(Config::default().retry(retry))
        .limiter(Limiter::new())
        .seed(7)
        .transport(transport)
        .build()
        .unwrap();
    let start = Instant::now();
    let mut events = manager.events();
    let mut stream = manager.subscribe::<Message>("name").unwrap();
    let reading = async {
        let mut gaps = 0;
        while let Some(item) = stream.recv().await {
            match item {
                Ok(message) => assert!(message.len() <= MAX_MESSAGE),
                Err(StreamError::Gap(_)) => gaps += 1,
                Err(StreamError::Closed(_)) => return gaps,
                Err(e) => panic!("{e}"),
            }
        }
        panic!("an end without a reason");
    };
    let gaps = timeout(3 * (LONGEST_WAIT + SLACK), reading).await.expect("it ends");
    // A gap for the second socket, and one for what a slow reader missed before it.
    assert!(gaps <= 4, "{gaps} gaps over two sockets");
    drop(stream);
    manager.shutdown().await;
    drop(manager);
    while let Some(event) = events.next().await {
        if let Event::Retrying { delay, .. } = event {
            assert!(delay <= LONGEST_WAIT + SLACK, "{delay:?}");
        }
    }
    assert!(start.elapsed() <= 3 * (LONGEST_WAIT + SLACK));
    for _ in 0..1000 {
        if Handle::current().metrics().num_alive_tasks() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("tasks are left behind");
}
