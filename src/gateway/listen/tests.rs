//! On real sockets, in real time: each wait is for an event.

use axum::body::Body;
use axum::routing::{get, post};
use futures::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant};

use super::*;
use crate::gateway::defect::are_found;

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

/// What the limit is for: with a place more it does not wait.
#[tokio::test]
async fn below_the_limit_of_connections_nobody_waits_for_another() {
    let server = start(router(), ListenConfig::default().connections(2)).await;
    let _first = connect(&server).await;
    let mut second = connect(&server).await;
    second.write_all(ASK).await.unwrap();
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 200"));
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// When the connection of a client ends that does as `client` does, and nothing more; nothing where it does not
/// within a day.
async fn ends<F: Future<Output = ()>>(
    config: ListenConfig,
    client: impl FnOnce(DuplexStream) -> F,
) -> Option<Duration> {
    let endless = async || Body::from_stream(stream::repeat(Ok::<_, Infallible>("x".repeat(1000))));
    let silent = async || Body::from_stream(stream::pending::<Result<&str, Infallible>>());
    let router = router().route("/endless", get(endless)).route("/silent", get(silent));
    let (ours, theirs) = duplex(1 << 10);
    let (_stopping, stopped) = watch::channel(false);
    let peer = SocketAddr::from(([192, 0, 2, 1], 4711));
    let begun = Instant::now();
    tokio::select! {
        () = serve(theirs, peer, router, config, stopped) => Some(begun.elapsed()),
        () = client(ours) => unreachable!("it keeps its socket"),
        () = sleep(DAY) => None,
    }
}

/// Says nothing for as long as it is.
async fn silent(_socket: DuplexStream) {
    pending().await
}

/// Says a byte of its request in each second.
async fn drips(mut socket: DuplexStream) {
    for byte in ASK {
        let _ = socket.write_all(&[*byte]).await;
        sleep(Duration::from_secs(1)).await;
    }
    pending().await
}

/// Stops behind a byte of its head.
async fn stops(mut socket: DuplexStream) {
    socket.write_all(&ASK[..ASK.len() - 1]).await.unwrap();
    pending().await
}

/// Reads nothing of an answer that has no end.
async fn unread(mut socket: DuplexStream) {
    socket.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    pending().await
}

/// Reads an answer for as long as there may be more of it, and says that it says no more.
async fn half(mut socket: DuplexStream) {
    socket.write_all(b"GET /silent HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    socket.shutdown().await.unwrap();
    let _ = socket.read_to_end(&mut Vec::new()).await;
    pending().await
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_and_no_more_however_it_comes() {
    let within = Duration::from_secs(10);
    assert_eq!(ends(ListenConfig::default(), silent).await, Some(within));
    assert_eq!(ends(ListenConfig::default(), drips).await, Some(within));
    assert_eq!(ends(ListenConfig::default(), stops).await, Some(within));
}

/// What the deadline is for: the same clients keep their connections without it.
#[tokio::test(start_paused = true)]
async fn without_a_deadline_a_head_is_waited_for_as_long_as_it_takes() {
    let config = ListenConfig::default().header_timeout(10 * DAY);
    assert_eq!(ends(config.clone(), silent).await, None);
    assert_eq!(ends(config.clone(), stops).await, None);
    let asked = Duration::from_secs(ASK.len() as u64 - 1);
    assert_eq!(ends(config, drips).await, Some(asked), "its request is answered");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_has_its_time() {
    let within = Duration::from_secs(30);
    assert_eq!(ends(ListenConfig::default(), unread).await, Some(within));
}

/// What the deadline is for: without it the answer waits with its connection.
#[tokio::test(start_paused = true)]
async fn without_a_deadline_an_answer_waits_for_who_does_not_read_it() {
    let config = ListenConfig::default().write_timeout(10 * DAY);
    assert_eq!(ends(config, unread).await, None);
}

#[tokio::test(start_paused = true)]
async fn who_ends_its_direction_is_gone_at_once() {
    assert_eq!(ends(ListenConfig::default(), half).await, Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn where_accept_fails_it_pauses_unless_that_concerns_one_connection() {
    let config = ListenConfig::default();
    let out_of_descriptors = || io::Error::from_raw_os_error(24);
    let aborted = || io::ErrorKind::ConnectionAborted.into();
    let all: [(fn() -> io::Error, bool); 2] = [(out_of_descriptors, true), (aborted, false)];
    for (failed, pauses) in all {
        let (begun, asked) = (Instant::now(), std::cell::Cell::new(0));
        let next = || {
            asked.set(asked.get() + 1);
            std::future::ready(if asked.get() > 3 { Ok(()) } else { Err(failed()) })
        };
        insisting(next, &config).await;
        let expected = if pauses { 3 * config.accept_pause } else { Duration::ZERO };
        assert_eq!((asked.get(), begun.elapsed()), (4, expected), "{}", failed());
    }
}

#[tokio::test]
async fn what_is_behind_a_request_in_chunks_is_never_read_also_where_the_body_is() {
    // Nobody waits long for another request where one may come.
    let config = ListenConfig::default().header_timeout(Duration::from_millis(200));
    let server = start(router().route("/read", post(async |body: String| body)), config).await;
    for length in ["", "content-length: 5\r\n"] {
        let head = format!("POST /read HTTP/1.1\r\nhost: x\r\n{length}transfer-encoding: chunked");
        let behind = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut socket = connect(&server).await;
        let said = format!("{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n{behind}");
        socket.write_all(said.as_bytes()).await.unwrap();
        let answer = rest(&mut socket).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    }
}

#[test]
fn a_listener_that_spins_or_serves_who_has_gone_is_found_out() {
    are_found(&[
        (Defect::AcceptSpins, where_accept_fails_it_pauses_unless_that_concerns_one_connection),
        (
            Defect::ChunksGoOn,
            what_is_behind_a_request_in_chunks_is_never_read_also_where_the_body_is,
        ),
        (Defect::HalfIsServed, who_ends_its_direction_is_gone_at_once),
    ]);
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
    // Nothing else ends an idle connection.
    let config = ListenConfig::default().header_timeout(DAY);
    let server = start(router().route("/slow", slow), config).await;
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

/// A server that is told to stop, and a request whose answer never comes.
async fn stopping_within(drain: Duration) -> (tokio::task::JoinHandle<()>, TcpStream) {
    let begun = Arc::new(Notify::new());
    let never = {
        let begun = Arc::clone(&begun);
        get(move || async move {
            begun.notify_one();
            pending::<()>().await;
        })
    };
    let config = ListenConfig::default().drain_timeout(drain);
    let server = start(router().route("/never", never), config).await;
    let mut asking = connect(&server).await;
    asking.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    begun.notified().await;
    server.stop.send(()).unwrap();
    (server.ended, asking)
}

#[tokio::test]
async fn what_does_not_come_to_an_end_does_not_hold_up_the_end() {
    let (ended, mut asking) = stopping_within(Duration::from_millis(100)).await;
    timeout(Duration::from_secs(60), ended).await.unwrap().unwrap();
    assert_eq!(rest(&mut asking).await, "");
}

/// What the deadline is for: without it the same request holds up the end.
#[tokio::test]
async fn without_a_deadline_what_does_not_come_to_an_end_is_waited_for() {
    let (patient, _asking) = stopping_within(DAY).await;
    let (hasty, _other) = stopping_within(Duration::from_millis(100)).await;
    timeout(Duration::from_secs(60), hasty).await.unwrap().unwrap();
    assert!(!patient.is_finished());
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
        let body = stream::repeat_with(move || {
            let _ = &told;
            Ok::<_, Infallible>(chunk.clone())
        });
        async move { Body::from_stream(body) }
    };
    let config = ListenConfig::default().write_timeout(Duration::from_millis(100));
    let server = start(Router::new().route("/", get(endless)), config).await;
    let mut stuck = connect(&server).await;
    stuck.write_all(ASK).await.unwrap();
    timeout(Duration::from_secs(60), gone.notified()).await.expect("its answer is given up");
}
