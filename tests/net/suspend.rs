//! A process that is stopped and goes on (SIGSTOP, SIGCONT), with a client in it.
//!
//! The process is this test binary once more, told by its environment to be the client.

use std::env;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time;
use wsmux::test_util::{MockServer, Peer};
use wsmux::transport::Frame;
use wsmux::{Config, Heartbeat, Message, WsManager};

use crate::{HOUR, SECOND, within};

const URL: &str = "WSMUX_TEST_STOPPED_CLIENT";

/// How often the client pings.
const INTERVAL: time::Duration = time::Duration::from_millis(200);

/// Not a test of its own: the client that the others stop.
#[tokio::test]
async fn client_that_is_stopped() {
    let Ok(url) = env::var(URL) else { return };
    // So long a timeout that only a probe's can end a socket here.
    let heartbeat = Heartbeat { interval: INTERVAL, timeout: HOUR };
    let manager = WsManager::connect_with(&url, Config::default().heartbeat(heartbeat)).unwrap();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    while stream.recv().await.is_some() {}
}

struct Client(Child);

impl Client {
    async fn start(server: &MockServer) -> (Self, Peer) {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "suspend::client_that_is_stopped"])
            .env(URL, server.url())
            .kill_on_drop(true)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        (Self(child), within(server.accept()).await)
    }

    fn signal(&self, signal: Signal) {
        let pid = self.0.id().unwrap().try_into().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

/// How many pings come within `time`.
async fn pings(peer: &Peer, within: time::Duration) -> usize {
    let mut pings = 0;
    let counting = async {
        while let Some(frame) = peer.recv().await {
            pings += usize::from(matches!(frame, Frame::Ping(_)));
        }
    };
    assert!(time::timeout(within, counting).await.is_err(), "the socket was lost");
    pings
}

#[tokio::test]
async fn a_process_that_goes_on_does_not_make_up_for_the_pings_it_missed() {
    let server = MockServer::start().await.unwrap();
    let (client, peer) = Client::start(&server).await;
    while !matches!(within(peer.recv()).await, Some(Frame::Ping(_))) {}
    client.signal(Signal::STOP);
    pings(&peer, INTERVAL).await; // What was under way.
    assert_eq!(pings(&peer, 20 * INTERVAL).await, 0, "it is stopped");
    client.signal(Signal::CONT);
    let pings = pings(&peer, 5 * INTERVAL).await;
    assert!((1..=7).contains(&pings), "one at once, and one each interval: {pings}");
    assert!(peer.is_open());
}

#[tokio::test]
async fn a_peer_that_is_gone_when_a_process_goes_on_is_found_dead_in_five_seconds() {
    let server = MockServer::start().await.unwrap();
    let (client, peer) = Client::start(&server).await;
    while !matches!(within(peer.recv()).await, Some(Frame::Ping(_))) {}
    client.signal(Signal::STOP);
    peer.half_open();
    let stopped = time::timeout(10 * INTERVAL, server.accept()).await;
    assert!(stopped.is_err(), "it is stopped");
    client.signal(Signal::CONT);
    let start = time::Instant::now();
    within(server.accept()).await;
    assert!(start.elapsed() >= 5 * SECOND, "it had five seconds: {:?}", start.elapsed());
}
