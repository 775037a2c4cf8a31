//! What a pool of connections is worth, and what it costs: a warm request against one that opens its
//! connection, 100 requests in a batch against one connection for each, and a request through the pool
//! against a bare socket's loop.
//!
//! ```text
//! cargo bench --bench requests
//! ```
//!
//! The first two are wall time against a server whose handshake takes 300 ms; the pool of a batch is
//! new, so that its own handshakes count. The third is wall time per request, one after the other, on
//! the same server without that.

mod common;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Wire;
use wsmux::protocol::Unsupported;
use wsmux::protocol::{Cx, Dial, DialError, Lane, Protocol, Request, RequestId, Response, Session};
use wsmux::requests::{PoolConfig, RequestPool};
use wsmux::test_util::{Mock, Out, Service, SocketId};
use wsmux::transport::{Transport, TransportError, Tungstenite};
use wsmux::{InvalidName, Message, StreamName};

use self::common::cpus::pinned;
use self::common::rounds::{take_turns, tell};
use self::common::{run, runtime};

const HANDSHAKE: Duration = Duration::from_millis(300);
const SYMBOLS: usize = 100;
const REQUESTS: u32 = 20_000;

fn main() {
    let url: Arc<str> = serve().into();
    pinned(|| {
        let rounds = take_turns(&["request_warm"], || latency(&url, true), || latency(&url, false));
        tell("request_warm", "ms", &rounds);
        let rounds = take_turns(&["batch_100"], || batch(&url), || one_by_one(&url));
        tell("batch_100", "ms", &rounds);
        let rounds = take_turns(&["pool_per_request"], || pooled(&url), || bare(&url));
        tell("pool_per_request", "us", &rounds);
    });
}

/// A thread with a server on it, and its URL.
fn serve() -> String {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        runtime(None).block_on(async {
            let mock = Mock::on_port(Echo).await.expect("a free port");
            tell.send(mock.url()).expect("somebody waits for it");
            std::future::pending::<()>().await;
        });
    });
    told.recv().expect("a server")
}

/// A request is `<id> <body>`, and so is its reply.
struct Echo;

impl Service for Echo {
    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        out.send(socket, message.clone());
    }
}

struct Lines(Arc<str>);

impl Protocol for Lines {
    fn lane(&self, _: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new("lines"))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::new(&self.0)?.joining(dial.names.iter().cloned()))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Talk)
    }
}

struct Talk;

impl Session for Talk {
    fn join(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let id = message.as_text().and_then(|text| text.split_once(' ')?.0.parse().ok());
        id.into_iter().for_each(|id| cx.reply(RequestId(id), message.clone(), true));
    }

    fn request(
        &mut self,
        id: RequestId,
        body: Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Unsupported> {
        cx.push(format!("{id} {}", body.as_text().ok_or(Unsupported)?));
        Ok(())
    }
}

/// Takes its time to shake hands.
struct Slow(Tungstenite);

impl Transport for Slow {
    type Socket = <Tungstenite as Transport>::Socket;

    async fn connect(&self, request: &Request) -> Result<(Self::Socket, Response), TransportError> {
        sleep(HANDSHAKE).await;
        self.0.connect(request).await
    }
}

fn slow_pool(url: &Arc<str>) -> RequestPool {
    let builder = RequestPool::builder(Lines(Arc::clone(url)), "x").manager(|manager| {
        manager.transport(Slow(Tungstenite::default())).limiter(wsmux::Limiter::new())
    });
    builder.build().unwrap()
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds of one request, on a connection that is there or on one that is not.
fn latency(url: &Arc<str>, warm: bool) -> f64 {
    let pool = slow_pool(url);
    run(&runtime(None), async move {
        if warm {
            pool.request("warm up").await.unwrap();
        }
        let start = Instant::now();
        pool.request("symbol").await.unwrap();
        millis(start)
    })
}

/// Milliseconds of all symbols in a batch, on a pool that has yet to open.
fn batch(url: &Arc<str>) -> f64 {
    let pool = slow_pool(url);
    run(&runtime(None), async move {
        let start = Instant::now();
        let items: Vec<_> = pool.batch((0..SYMBOLS).map(|n| n.to_string())).collect().await;
        assert!(items.iter().all(|item| item.outcome.is_ok()));
        millis(start)
    })
}

/// The same with a connection for each, as many at once as the batch has in flight to begin with.
fn one_by_one(url: &Arc<str>) -> f64 {
    let url = Arc::clone(url);
    run(&runtime(None), async move {
        let start = Instant::now();
        let asks = (0..SYMBOLS).map(|n| {
            let url = Arc::clone(&url);
            async move {
                sleep(HANDSHAKE).await;
                let mut socket = connect(&url).await;
                ask(&mut socket, n).await;
                socket.close(None).await.unwrap();
            }
        });
        let at_once = PoolConfig::default().batch_size;
        futures::stream::iter(asks).buffer_unordered(at_once).collect::<Vec<()>>().await;
        millis(start)
    })
}

type Bare = WebSocketStream<TcpStream>;

async fn connect(url: &str) -> Bare {
    let host = url.trim_start_matches("ws://").trim_end_matches('/');
    let stream = TcpStream::connect(host).await.unwrap();
    stream.set_nodelay(true).unwrap();
    tokio_tungstenite::client_async(url, stream).await.unwrap().0
}

async fn ask(socket: &mut Bare, id: usize) {
    socket.send(Wire::text(format!("{id} symbol"))).await.unwrap();
    let reply = socket.next().await.unwrap().unwrap();
    assert!(reply.to_text().unwrap().ends_with("symbol"));
}

/// Microseconds per request through the pool.
fn pooled(url: &Arc<str>) -> f64 {
    let pool = RequestPool::new(Lines(Arc::clone(url)), "x").unwrap();
    run(&runtime(None), async move {
        pool.request("warm up").await.unwrap();
        let start = Instant::now();
        for _ in 0..REQUESTS {
            pool.request("symbol").await.unwrap();
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS)
    })
}

/// The same over a bare socket.
fn bare(url: &Arc<str>) -> f64 {
    let url = Arc::clone(url);
    run(&runtime(None), async move {
        let mut socket = connect(&url).await;
        ask(&mut socket, 0).await;
        let start = Instant::now();
        for id in 0..REQUESTS {
            ask(&mut socket, id as usize).await;
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS)
    })
}
