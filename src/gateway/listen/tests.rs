//! On real sockets, in real time: each wait is for an event.

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant};

use super::*;

/// A server, what stops it, and what tells that it has ended.
struct Server {
    address: SocketAddr,
    ended: tokio::task::JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

async fn start(router: Router, config: ListenConfig) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(listen(listener, router, config, async {
        let _ = stopped.await;
    }));
    Server { address, ended, stop }
}

fn router() -> Router {
    Router::new().route("/", get(|peer: ConnectInfo<SocketAddr>| async move { peer.0.to_string() }))
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// All that comes until the end, which may be a reset.
async fn rest(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(Duration::from_secs(60), socket.read_to_end(&mut all)).await.expect("an end");
    String::from_utf8_lossy(&all).into_owned()
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_is_answered_and_knows_where_it_comes_from() {
    let server = start(router(), ListenConfig::default()).await;
    let mut socket = connect(&server).await;
    socket.write_all(ASK).await.unwrap();
    let own = socket.local_addr().unwrap().to_string();
    let answer = rest(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&own), "{answer}");
}

#[tokio::test]
async fn a_client_that_says_nothing_or_drips_is_cut_off_and_others_are_served() {
    let config = ListenConfig::default().header_timeout(Duration::from_millis(200));
    let server = start(router(), config).await;
    let (mut silent, mut dripping) = (connect(&server).await, connect(&server).await);
    dripping.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let mut good = connect(&server).await;
    good.write_all(ASK).await.unwrap();
    assert!(rest(&mut good).await.starts_with("HTTP/1.1 200"));
    let before = Instant::now();
    assert_eq!(rest(&mut silent).await, "");
    let _ = rest(&mut dripping).await;
    assert!(before.elapsed() < Duration::from_secs(10), "cut off, and not at the test's own end");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused() {
    let server = start(router(), ListenConfig::default()).await;
    let mut socket = connect(&server).await;
    let _ = socket.write_all(b"GET / HTTP/1.1\r\nx: ").await;
    while socket.write_all(&[b'x'; 4096]).await.is_ok() {}
    let answer = rest(&mut socket).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn at_the_limit_of_connections_the_next_one_waits_for_its_place() {
    let config = ListenConfig::default().connections(1);
    let server = start(router(), config).await;
    let first = connect(&server).await;
    let mut second = connect(&server).await;
    second.write_all(ASK).await.unwrap();
    let mut byte = [0];
    let early = timeout(Duration::from_millis(100), second.peek(&mut byte)).await;
    assert!(early.is_err(), "it is in the backlog");
    drop(first);
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn when_it_is_to_stop_what_is_under_way_is_answered_and_idle_connections_end() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        get(move || async move {
            begun.notify_one();
            go.notified().await;
            "late"
        })
    };
    let server = start(router().route("/slow", slow), ListenConfig::default()).await;
    let mut idle = connect(&server).await;
    let mut asking = connect(&server).await;
    asking.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    begun.notified().await;
    server.stop.send(()).unwrap();
    assert_eq!(rest(&mut idle).await, "", "nothing was under way");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody is accepted any more");
    go.notify_one();
    assert!(rest(&mut asking).await.ends_with("late"));
    timeout(Duration::from_secs(60), server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_come_to_an_end_does_not_hold_up_the_end() {
    let begun = Arc::new(Notify::new());
    let never = {
        let begun = Arc::clone(&begun);
        get(move || async move {
            begun.notify_one();
            pending::<()>().await;
        })
    };
    let config = ListenConfig::default().drain_timeout(Duration::from_millis(100));
    let server = start(router().route("/never", never), config).await;
    let mut asking = connect(&server).await;
    asking.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    begun.notified().await;
    server.stop.send(()).unwrap();
    timeout(Duration::from_secs(60), server.ended).await.unwrap().unwrap();
    assert_eq!(rest(&mut asking).await, "");
}

#[test]
fn only_what_concerns_one_connection_is_tried_again_at_once() {
    for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::Interrupted] {
        assert!(is_of_one_connection(&kind.into()), "{kind}");
    }
    // EMFILE, ENFILE, ENOBUFS, ENOMEM.
    for code in [24, 23, 105, 12] {
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(code)), "{code}");
    }
}

/// Tells when it is dropped.
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_cut_off() {
    let gone = Arc::new(Notify::new());
    let told = Arc::clone(&gone);
    let endless = move || {
        let told = Told(Arc::clone(&told));
        let chunk = bytes::Bytes::from(vec![b'x'; 64 << 10]);
        let body = futures::stream::repeat_with(move || {
            let _ = &told;
            Ok::<_, Infallible>(chunk.clone())
        });
        async move { axum::body::Body::from_stream(body) }
    };
    let config = ListenConfig::default().write_timeout(Duration::from_millis(100));
    let server = start(Router::new().route("/", get(endless)), config).await;
    let mut stuck = connect(&server).await;
    stuck.write_all(ASK).await.unwrap();
    timeout(Duration::from_secs(60), gone.notified()).await.expect("its answer is given up");
}
