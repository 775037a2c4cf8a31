//! What nobody sends who means well, to the listener that faces the world: requests that two readers might read
//! differently, handshakes that are none, and connections that end or go on where they should not.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use wsmux::gateway::listen::{ListenConfig, listen};

use crate::client::{CLOSE, Client, TEXT, masked};
use crate::{Stage, soon};

/// A gateway at a door of its own.
struct World {
    addr: SocketAddr,
    stage: Stage,
    task: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(ListenConfig::default()).await
    }

    async fn with(config: ListenConfig) -> Self {
        let stage = Stage::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(listen(listener, stage.gateway.router(), config, pending()));
        Self { addr, stage, task }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// All that is said until the end, which may be a reset.
    async fn answer(&self, said: impl AsRef<[u8]>) -> String {
        answer(self.addr, said).await
    }

    /// Waits until nobody is there any more.
    async fn until_empty(&self) {
        soon(async {
            loop {
                let stats = self.stage.gateway.stats();
                if (stats.clients, stats.sse, stats.names.len()) == (0, 0, 0) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(addr: SocketAddr, said: impl AsRef<[u8]>) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let _ = soon(socket.write_all(said.as_ref())).await;
    rest(&mut socket).await
}

async fn rest(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = soon(socket.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// Up to the end of the head.
async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(socket.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The statuses of all answers there are.
fn statuses(said: &str) -> Vec<u16> {
    said.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

/// A handshake with these lines changed, each by its name, or left out where a value is empty.
fn handshake(first: &str, changed: &[(&str, &str)]) -> String {
    let mut lines = vec![
        ("Host", "test"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    lines.retain(|(name, _)| changed.iter().all(|(other, _)| name != other));
    lines.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
    let lines: Vec<_> = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{first}\r\n{}\r\n", lines.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_in_two_places_is_answered_once_and_what_is_behind_it_is_never_read() {
    let world = World::new().await;
    let behind = "GET /client.js HTTP/1.1\r\nHost: test\r\n\r\n";
    let chunked = format!("0\r\n\r\n{behind}");
    let length = chunked.len();
    // As a reader of the length sees it, all of it is one request.
    for (lines, expected) in [
        (format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), 404),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), 404),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(), 400),
        ("Transfer-Encoding: chunked, x\r\n".to_owned(), 400),
        ("Transfer-Encoding: xchunked\r\n".to_owned(), 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(), 400),
        ("Content-Length: 5, 6\r\n".to_owned(), 400),
        ("Content-Length: +5\r\n".to_owned(), 400),
        ("Content-Length: -1\r\n".to_owned(), 400),
        ("Content-Length: 99999999999999999999\r\n".to_owned(), 400),
        ("Transfer-Encoding : chunked\r\n".to_owned(), 400),
        ("X: a\r\n Transfer-Encoding: chunked\r\n".to_owned(), 400),
        ("X: a\rTransfer-Encoding: chunked\r\n".to_owned(), 400),
        ("X: a\0b\r\n".to_owned(), 400),
    ] {
        let said = world
            .answer(format!("POST /nothing HTTP/1.1\r\nHost: test\r\n{lines}\r\n{chunked}"))
            .await;
        assert_eq!(statuses(&said), [expected], "{lines:?}: {said}");
    }
    let older = "POST /nothing HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let said = world.answer(format!("{older}{chunked}")).await;
    assert!(said.split("HTTP/1.").count() == 2 && said[9..].starts_with("400"), "{said}");
    world.until_empty().await;
}

/// What this is for: of requests that nobody can read differently, each is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_follow_each_other_are_answered_in_their_order() {
    let world = World::new().await;
    let one = "POST /nothing HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";
    let two = "GET /sse/.. HTTP/1.1\r\nHost: test\r\n\r\n";
    let last = "GET /client.js HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let said = world.answer(format!("{one}{two}{last}{last}")).await;
    assert_eq!(statuses(&said), [404, 404, 200], "{said}");
}

/// Which of these requests, for two hosts or for none, are let through; each with these lines more.
async fn hosts_let_through(addr: SocketAddr, more: &str) -> Vec<(&'static str, &'static str)> {
    let mut through = Vec::new();
    for (target, hosts) in [
        ("/client.js", ""),
        ("/client.js", "Host: test\r\nHost: test\r\n"),
        ("/client.js", "Host: test, other\r\n"),
        ("/client.js", "Host: user@test\r\n"),
        ("http://other/client.js", "Host: test\r\n"),
        ("http://test:81/client.js", "Host: test\r\n"),
    ] {
        let said = answer(addr, format!("GET {target} HTTP/1.1\r\n{hosts}{more}\r\n")).await;
        if statuses(&said) != [400] {
            through.push((target, hosts));
        }
    }
    through
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_two_hosts_or_for_none_is_refused() {
    let world = World::new().await;
    assert_eq!(hosts_let_through(world.addr, "").await, []);
    for target in ["/client.js", "http://test/client.js", "http://test:80/client.js"] {
        let close = "Host: test\r\nConnection: close\r\n";
        let said = world.answer(format!("GET {target} HTTP/1.1\r\n{close}\r\n")).await;
        assert_eq!(statuses(&said), [200], "{target}: {said}");
    }
}

/// What the listener is for: the same gateway without it lets each of them through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_listener_a_request_for_two_hosts_is_let_through() {
    let world = World::new().await;
    let through = hosts_let_through(world.stage.addr, "Connection: close\r\n").await;
    assert_eq!(through.len(), 6, "{through:?}");
}

/// A body is read by who wants one, and then only of whoever was let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_asked_for_is_not_waited_for() {
    let world = World::new().await;
    let router = wsmux::gateway::Entrance::builder().build().router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let tickets = tokio::spawn(listen(listener, router, ListenConfig::default(), pending()));
    for (addr, path, expected) in [(addr, "/ticket", 401), (world.addr, "/batch", 404)] {
        for length in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
            let mut socket = TcpStream::connect(addr).await.unwrap();
            let request = format!("POST {path} HTTP/1.1\r\nHost: test\r\n{length}\r\n\r\n1");
            socket.write_all(request.as_bytes()).await.unwrap();
            // The end comes by itself, not by a client that goes.
            let said = rest(&mut socket).await;
            assert_eq!(statuses(&said), [expected], "{path} {length}: {said}");
        }
    }
    tickets.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_measure_ends_its_connection() {
    let world = World::new().await;
    let much = "x".repeat(200 << 10);
    let many: Vec<_> = (0..200).map(|n| format!("x{n}: y\r\n")).collect();
    let many = many.concat();
    for request in [
        format!("GET /sse?names={much} HTTP/1.1\r\nHost: test\r\n\r\n"),
        format!("GET /client.js HTTP/1.1\r\nHost: test\r\n{much}: x\r\n\r\n"),
        format!("GET /client.js HTTP/1.1\r\nHost: test\r\nx: {much}\r\n\r\n"),
        format!("GET /client.js HTTP/1.1\r\nHost: test\r\n{many}\r\n"),
        format!("GET {much}"),
        much.clone(),
    ] {
        let said = world.answer(&request).await;
        // Whoever goes on writing may find the connection reset before it has read why.
        let statuses = statuses(&said);
        assert!(statuses.is_empty() || (400..=431).contains(&statuses[0]), "{said}");
        assert!(statuses.len() < 2, "{said}");
    }
    world.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_none_is_refused_and_opens_nothing() {
    let world = World::new().await;
    let get = "GET /ws/a HTTP/1.1";
    let key = "Sec-WebSocket-Key";
    let twice = [(key, "dGhlIHNhbXBsZSBub25jZQ=="), (key, "dGhlIHNhbXBsZSBub25jZQ==")];
    for (first, changed, expected) in [
        (get, &[(key, "")][..], 400),
        (get, &twice[..], 400),
        (get, &[(key, "dGhlIHNhbXBsZSBub25j")][..], 400),
        (get, &[(key, "dGhlIHNhbXBsZSBub25jZQAA")][..], 400),
        (get, &[(key, "????????????????????????")][..], 400),
        (get, &[("Sec-WebSocket-Version", "8")][..], 426),
        (get, &[("Sec-WebSocket-Version", "99")][..], 426),
        (get, &[("Sec-WebSocket-Version", "")][..], 426),
        (get, &[("Upgrade", "h2c")][..], 426),
        (get, &[("Connection", "keep-alive")][..], 426),
        ("POST /ws/a HTTP/1.1", &[("Content-Length", "0")][..], 405),
        (get, &[("Content-Length", "5")][..], 400),
        (get, &[("Transfer-Encoding", "chunked")][..], 400),
        ("GET /ws/%00 HTTP/1.1", &[][..], 404),
        ("GET /ws/%ff HTTP/1.1", &[][..], 400),
    ] {
        let mut socket = world.tcp().await;
        socket.write_all(handshake(first, changed).as_bytes()).await.unwrap();
        let said = head(&mut socket).await;
        assert_eq!(statuses(&said), [expected], "{first} {changed:?}: {said}");
    }
    let said = world.answer(handshake("GET /ws/a HTTP/1.0", &[])).await;
    assert!(!said.contains(" 101 "), "{said}");
    world.until_empty().await;
    assert_eq!(world.stage.gateway.manager().stream_count(), 0, "nothing was opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_utf_8_is_refused_and_never_read_as_another() {
    let world = World::new().await;
    for target in ["/sse?names=%ff", "/sse?names=a,%c3,b", "/sse/%ff", "/snapshot/%ff"] {
        let close = "Host: test\r\nConnection: close\r\n";
        let said = world.answer(format!("GET {target} HTTP/1.1\r\n{close}\r\n")).await;
        assert_eq!(statuses(&said), [400], "{target}: {said}");
    }
    let mut socket = world.tcp().await;
    socket.write_all(handshake("GET /ws/%ff HTTP/1.1", &[]).as_bytes()).await.unwrap();
    assert_eq!(statuses(&head(&mut socket).await), [400]);
    assert_eq!(world.stage.gateway.manager().stream_count(), 0, "nothing was opened");
    // What is written as UTF-8 is a name, and no other one.
    let mut socket = world.tcp().await;
    let request = "GET /sse?names=gr%c3%bcn HTTP/1.1\r\nHost: test\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(statuses(&head(&mut socket).await), [200]);
    let names = world.stage.gateway.stats().names;
    assert_eq!(names.iter().map(|name| name.name.as_str()).collect::<Vec<_>>(), ["gr\u{fc}n"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_with_the_handshake_is_read_as_frames_however_it_is_cut() {
    let world = World::new().await;
    let handshake = handshake("GET /ws HTTP/1.1", &[]);
    let ping = masked(TEXT, br#"{"type":"ping","id":7}"#);
    for early in [0, 1, 2, 5, ping.len()] {
        let mut socket = world.tcp().await;
        let with = [handshake.as_bytes(), &ping[..early]].concat();
        socket.write_all(&with).await.unwrap();
        assert!(head(&mut socket).await.starts_with("HTTP/1.1 101 "));
        socket.write_all(&ping[early..]).await.unwrap();
        let mut client = Client { socket };
        let word = client.word().await;
        assert_eq!((&word["type"], &word["id"]), (&"pong".into(), &7.into()), "{early}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_behind_a_handshake_is_a_broken_frame_and_no_request() {
    let world = World::new().await;
    let handshake = handshake("GET /ws HTTP/1.1", &[]);
    let behind = "GET /client.js HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut socket = world.tcp().await;
    socket.write_all(format!("{handshake}{behind}").as_bytes()).await.unwrap();
    assert!(head(&mut socket).await.starts_with("HTTP/1.1 101 "));
    let mut client = Client { socket };
    let (opcode, payload) = client.message().await.unwrap();
    assert_eq!((opcode, &payload[..2]), (CLOSE, &1002_u16.to_be_bytes()[..]));
    assert_eq!(client.message().await, None);
    world.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_that_it_says_no_more_is_let_go_and_leaves_nothing() {
    let mut world = World::new().await;
    let mut events = world.tcp().await;
    events.write_all(b"GET /sse/a HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert_eq!(statuses(&head(&mut events).await), [200]);
    let _peer = world.stage.peer().await;
    let mut words = Client::open(world.tcp().await, "/ws").await.unwrap();
    let mut relay = Client::open(world.tcp().await, "/ws/a").await.unwrap();
    for socket in [&mut events, &mut words.socket, &mut relay.socket] {
        socket.shutdown().await.unwrap();
        rest(socket).await;
    }
    world.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_in_the_midst_of_a_request_is_cut_off_in_time() {
    let config = ListenConfig::default().header_timeout(Duration::from_millis(200));
    let world = World::with(config).await;
    let whole = handshake("GET /ws HTTP/1.1", &[]);
    for at in [0, 1, 3, 16, 18, 30, whole.len() - 2, whole.len() - 1] {
        let said = world.answer(&whole[..at]).await;
        assert!(!said.contains(" 101 "), "{at}: {said}");
    }
    world.until_empty().await;
}
