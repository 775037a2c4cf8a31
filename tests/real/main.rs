//! The whole client against servers that others wrote, a suite that examines clients, and the mocks
//! of protocols and the gateway against the clients that others wrote.
//!
//! `scripts/real` and `scripts/autobahn` install what these tests need and run them. Without it each
//! says that it is skipped, and the scripts count it as such. Nothing sleeps here: every wait is for
//! an event, and what never comes fails its test.

mod autobahn;
mod channels;
mod fronts;
mod gateway;
mod graphql;
mod half_open;
mod haproxy;
mod json_rpc;
mod nats;
mod nginx;
mod node;
mod numbers;
mod program;
mod proxies;
mod reader;
mod snippets;
mod stories;

use std::future::Future;
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;
use wsmux::protocol::{Direct, Protocol};
use wsmux::transport::Tungstenite;
use wsmux::{
    Config, DisconnectReason, Event, Events, Heartbeat, Limiter, Overall, RetryPolicy, WsManager,
    WsManagerBuilder,
};

use self::reader::Reader;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What a machine that has more to do may add to a measured time.
const SLACK: Duration = Duration::from_secs(2);

/// Says that this test is skipped, also where the output of a test that passes is not shown.
fn skipped(why: &str) {
    say("SKIPPED", why);
}

/// Says what this test has measured, for the script that runs it.
fn measured(what: &str) {
    say("MEASURED", what);
}

fn say(kind: &str, what: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{kind} {test}: {what}").unwrap();
}

/// What never comes fails a test, instead of stopping it.
async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(60 * SECOND, wait).await.expect("it never came")
}

/// Retries for ever after short delays. The heartbeat takes two seconds.
fn config() -> Config {
    let retry = RetryPolicy {
        base_delay: 10 * MS,
        max_delay: 100 * MS,
        min_delay: 10 * MS,
        ..RetryPolicy::forever()
    };
    let heartbeat = Heartbeat { interval: SECOND, timeout: SECOND };
    Config::default().retry(retry).heartbeat(heartbeat).connect_timeout(2 * SECOND)
}

fn direct(port: u16) -> Direct {
    Direct::new(&format!("ws://127.0.0.1:{port}")).unwrap()
}

fn builder(protocol: impl Protocol, config: Config) -> WsManagerBuilder {
    let transport = Tungstenite::new().no_proxy();
    WsManager::builder(protocol).config(config).limiter(Limiter::new()).transport(transport)
}

/// How long it takes from now until a socket is lost, and why it was.
async fn lost(events: &mut Events) -> (Duration, DisconnectReason) {
    let start = Instant::now();
    loop {
        match within(events.next()).await {
            Some(Event::Disconnected { reason, .. }) => return (start.elapsed(), reason),
            Some(_) => {}
            None => panic!("the manager is gone"),
        }
    }
}

/// The reason of the next failed dial, and how long it waits then.
async fn failed_dial(events: &mut Events) -> (DisconnectReason, Duration) {
    loop {
        match within(events.next()).await {
            Some(Event::Retrying { error, delay, .. }) => return (error.reason().clone(), delay),
            Some(_) => {}
            None => panic!("the manager is gone"),
        }
    }
}

/// Waits until the client holds no socket.
async fn until_disconnected(manager: &WsManager) {
    let mut overall = manager.status();
    while within(overall.next()).await != Some(Overall::Disconnected) {}
    assert_eq!(manager.stream_count(), 0);
}
