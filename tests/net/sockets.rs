//! Tasks that come and go at random: one socket for each name at most, and none in the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use wsmux::protocol::{Request, Response};
use wsmux::test_util::{MockServer, Peer};
use wsmux::transport::{
    Frame, Frames, Socket, Transport, TransportError, Tungstenite, TungsteniteSocket,
};
use wsmux::{Message, Overall, WsManager};

use crate::{MS, Net, builder, config, direct, message, within};

const NAMES: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 60;
const TASKS: u64 = 8;

async fn beat(peer: Peer) {
    peer.delay(MS);
    while peer.send("beat").await {}
}

async fn come_and_go(manager: WsManager, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut lease = None;
    for _ in 0..ROUNDS {
        let name = NAMES[rng.random_range(0..NAMES.len())];
        let mut stream = manager.subscribe::<Message>(name).unwrap();
        match rng.random_range(0..6) {
            0 => {}
            1 => tokio::task::yield_now().await,
            2 => within(stream.ready()).await.unwrap(),
            3 => lease = Some(manager.keep_warm(name).unwrap()),
            4 => lease = None,
            _ => assert_eq!(message(&mut stream).await, "beat".into()),
        }
    }
    drop(lease);
}

/// The most sockets that the client ever held of each path at once.
type Held = Arc<Mutex<HashMap<String, (usize, usize)>>>;

/// Counts the sockets that the client holds: what the server has counted may be on its way to it.
struct Counting {
    held: Held,
    inner: Tungstenite,
}

/// A socket, and its place in the count, which is given back after TCP is closed.
struct Counted {
    inner: TungsteniteSocket,
    _place: Place,
}

struct Place {
    held: Held,
    path: String,
}

impl Place {
    fn take(held: &Held, path: &str) -> Self {
        let mut paths = held.lock().unwrap();
        let (now, most) = paths.entry(path.to_owned()).or_default();
        *now += 1;
        *most = (*most).max(*now);
        Self { held: Arc::clone(held), path: path.to_owned() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.lock().unwrap().get_mut(&self.path).unwrap().0 -= 1;
    }
}

impl Transport for Counting {
    type Socket = Counted;

    async fn connect(&self, request: &Request) -> Result<(Counted, Response), TransportError> {
        // A dial counts from its beginning, and is a socket to the server before it is one to us.
        let place = Place::take(&self.held, request.url().path());
        let (inner, response) = self.inner.connect(request).await?;
        Ok((Counted { inner, _place: place }, response))
    }
}

impl Socket for Counted {
    fn poll_read(&mut self, cx: &mut Context<'_>, frames: &mut Frames) -> Poll<Polled> {
        self.inner.poll_read(cx, frames)
    }

    fn start_send(&mut self, frame: Frame) -> Polled {
        self.inner.start_send(frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        self.inner.poll_close(cx)
    }
}

type Polled = Result<(), TransportError>;

async fn churn(linger: Duration) {
    let server = MockServer::builder().route("/ws/", beat).start().await.unwrap();
    let held = Held::default();
    let transport = Counting { held: Arc::clone(&held), inner: Tungstenite::new() };
    let builder = builder(direct(&server), config().linger(linger)).transport(transport);
    let net = Net::of(server, builder);
    let tasks = (0..TASKS).map(|seed| tokio::spawn(come_and_go(net.manager.clone(), seed)));
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let mut overall = net.manager.status();
    while within(overall.next()).await != Some(Overall::Disconnected) {}
    within(net.server.until_sockets(0)).await;
    for name in NAMES {
        assert_eq!(net.server.max_sockets_on(&format!("/ws/{name}")), 1, "{name} {held:?}");
    }
    let counts = net.manager.metrics();
    assert_eq!((counts.readers, counts.disconnects, counts.lagged), (0, 0, 0));
    assert_eq!(counts.stream_creations, counts.stream_cleanups);
    net.leaves_nothing().await;
    for (path, counts) in &*held.lock().unwrap() {
        assert_eq!(*counts, (0, 1), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_that_comes_and_goes_has_one_socket_at_most() {
    churn(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_that_lingers_has_one_socket_at_most() {
    churn(3 * MS).await;
}

#[tokio::test]
async fn on_one_thread_too() {
    churn(Duration::ZERO).await;
    churn(3 * MS).await;
}
