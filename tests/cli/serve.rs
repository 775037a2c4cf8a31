//! `wsmux serve`: a gateway as a process.

use std::path::PathBuf;

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wsmux::{CloseReason, StreamError, Text, WsManager};

use super::*;

/// The program, once it is ready.
pub(super) struct Gateway {
    pub(super) admin: Option<String>,
    /// Host and port.
    pub(super) at: String,
    lines: Vec<String>,
    pub(super) program: Running,
}

impl Gateway {
    pub(super) async fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat())).await
    }

    pub(super) async fn spawn(command: Command) -> Self {
        let mut program = Running::spawn(command);
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != "ready") {
            lines.push(program.line().await.trim_end().to_owned());
        }
        let after = |what: &str| {
            lines.iter().find_map(|line| line.strip_prefix(what)).map(ToOwned::to_owned)
        };
        let at = after("clients http://").unwrap();
        Self { admin: after("operators http://"), at, lines, program }
    }

    fn manager(&self) -> WsManager {
        WsManager::connect(&format!("ws://{}/ws", self.at)).unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        ask(&self.at, "GET", path, "").await
    }
}

/// An answer to a request: its status, and the whole of it.
pub(super) async fn ask(at: &str, method: &str, path: &str, headers: &str) -> (u16, String) {
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{headers}\r\n");
    let mut socket = TcpStream::connect(at).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer:?}")), answer)
}

/// A file of this test, which goes with it.
pub(super) struct Temporary(PathBuf);

impl Temporary {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wsmux-serve-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(format!("{}.lock", self.path()));
    }
}

#[tokio::test]
async fn the_demo_serves_a_feed_without_a_network_and_says_where() {
    let gateway = Gateway::start(&["--demo", "--admin", "127.0.0.1:0"]).await;
    assert!(gateway.lines.iter().any(|line| line.starts_with("try ws://")), "{:?}", gateway.lines);
    let manager = gateway.manager();
    let mut trades = manager.subscribe::<Text>("btcusdt@trade").unwrap();
    let trade = within(trades.recv()).await.unwrap().unwrap();
    assert!(trade.contains("\"e\":\"trade\""), "{trade:?}");
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(gateway.get(path).await.0, 200, "{path}");
    }
    assert_eq!(gateway.get("/metrics").await.0, 404, "that is for operators");
    let admin = gateway.admin.as_deref().unwrap();
    let (status, metrics) = ask(admin, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("ws_gateway_clients{kind=\"websocket\"} 1"), "{metrics}");
    assert!(metrics.contains("ws_manager_active_connections"), "{metrics}");
    assert_eq!(ask(admin, "POST", "/admin/sweep", "").await.0, 403, "there is no token");
    // The dashboard shows everybody's streams: it is where operators are.
    for page in ["/", "/try", "/overview"] {
        assert_eq!(ask(admin, "GET", page, "").await.0, 200, "{page}");
        assert_eq!(gateway.get(page).await.0, 404, "{page}");
    }
    assert!(gateway.lines.contains(&format!("dashboard http://{admin}/")));
}

#[tokio::test]
async fn where_it_cannot_listen_it_says_what_to_do() {
    let other = Gateway::start(&["--demo"]).await;
    for option in ["--listen", "--admin"] {
        let free: &[&str] = if option == "--admin" { &["--listen", "127.0.0.1:0"] } else { &[] };
        let taken = run(&[&["serve", "--demo", option, &other.at], free].concat()).await;
        assert_eq!(taken.code, Some(1), "{taken:?}");
        assert!(taken.stderr.contains(&format!("name another port by `{option}`")), "{taken:?}");
        let wrong = run(&["serve", "--demo", option, "localhost"]).await;
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
        assert!(wrong.stderr.contains("such as `127.0.0.1:8080`"), "{wrong:?}");
    }
}

#[tokio::test]
async fn who_looks_at_a_gateway_s_log_sees_that_nothing_answers_upstream() {
    let mut gateway = Gateway::start(&["--anonymous", "--upstream", "ws://127.0.0.1:1/"]).await;
    let mut stderr = BufReader::new(gateway.program.child.stderr.take().unwrap());
    let mut reader = TcpStream::connect(&gateway.at).await.unwrap();
    reader.write_all(b"GET /sse/a HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut said = String::new();
    within(stderr.read_line(&mut said)).await.unwrap();
    assert!(said.contains("WARN") && said.contains("cannot connect to 127.0.0.1:1"), "{said}");
}

#[tokio::test]
async fn sigterm_closes_clients_with_1001_and_ends_with_0() {
    let config = Temporary::new("drain", "drain = \"500ms\"");
    let gateway = Gateway::start(&["--demo", "--config", config.path()]).await;
    let config = wsmux::Config::default()
        .retry(wsmux::RetryPolicy { max_attempts: Some(0), ..wsmux::RetryPolicy::default() });
    let url = format!("ws://{}/ws", gateway.at);
    let manager = WsManager::connect_with(&url, config).unwrap();
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut reader = manager.subscribe::<Text>("btcusdt@trade").unwrap();
        within(reader.recv()).await.unwrap().unwrap();
        readers.push(reader);
    }
    gateway.program.signal(Signal::TERM);
    let reader = &mut readers[0];
    let closed = loop {
        match within(reader.next()).await {
            Some(Err(StreamError::Closed(reason))) => break reason,
            Some(_) => {}
            None => panic!("it ended without a reason"),
        }
    };
    let CloseReason::RetriesExhausted { last, .. } = &closed else { panic!("{closed:?}") };
    assert!(last.to_string().contains("1001"), "{last}");
    let ran = gateway.program.end().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test]
async fn nobody_comes_in_by_default_and_with_a_key_who_has_it() {
    let refused = run(&["serve", "--upstream", "ws://127.0.0.1:1/"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("nobody could come in"), "{}", refused.stderr);

    let key = "canary-key-of-ann-0123456789";
    let config =
        Temporary::new("keys", "[[auth.api_keys]]\nuser = \"ann\"\nkey = { env = \"ANN\" }");
    let server = serving(|peer| async move { while peer.send("tick").await {} }).await;
    let url = server.url().to_string();
    let mut command = command(&[
        "serve",
        "-vvv",
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        &url,
        "--config",
        config.path(),
    ]);
    command.env("ANN", key);
    let gateway = Gateway::spawn(command).await;
    assert_eq!(gateway.get("/snapshot/x").await.0, 401);
    let bearer = format!("authorization: Bearer {key}\r\n");
    let (status, answer) = ask(&gateway.at, "GET", "/snapshot/x", &bearer).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.ends_with("tick"), "{answer}");
    let (status, ticket) = ask(&gateway.at, "POST", "/ticket", &bearer).await;
    assert_eq!(status, 200, "{ticket}");
    let ticket = ticket.split("\"ticket\":\"").nth(1).unwrap().split('"').next().unwrap();
    let path = format!("/snapshot/x?ticket={ticket}");
    assert_eq!(gateway.get(&path).await.0, 200);
    assert_eq!(gateway.get(&path).await.0, 401, "a ticket is good once");
    gateway.program.signal(Signal::TERM);
    let ran = gateway.program.end().await;
    for secret in [key, ticket] {
        assert!(!ran.shown().contains(secret), "{}", ran.shown());
    }
}

#[tokio::test]
async fn sighup_reads_the_configuration_again_and_a_bad_one_changes_nothing() {
    let config = Temporary::new("reload", "names = [\"btc*\"]\n");
    let mut gateway = Gateway::start(&["--demo", "--config", config.path()]).await;
    let mut stderr = BufReader::new(gateway.program.child.stderr.take().unwrap());
    let reload = async |gateway: &Gateway, stderr: &mut BufReader<_>, text: &str, end: &str| {
        std::fs::write(config.path(), text).unwrap();
        gateway.program.signal(Signal::HUP);
        let mut said = String::new();
        while !said.ends_with(end) {
            assert_ne!(within(stderr.read_line(&mut said)).await.unwrap(), 0, "{said}");
        }
        said
    };
    let status =
        async |gateway: &Gateway, name: &str| gateway.get(&format!("/snapshot/{name}")).await.0;
    assert_eq!(status(&gateway, "btcusdt@trade").await, 200);
    assert_ne!(status(&gateway, "ethusdt@trade").await, 200);

    let again = "the configuration was read again\n";
    reload(&gateway, &mut stderr, "names = [\"eth*\"]\n", again).await;
    assert_eq!(status(&gateway, "ethusdt@trade").await, 200);
    assert_ne!(status(&gateway, "btcusdt@trade").await, 200);

    let same = "the configuration stays what it was\n";
    let said = reload(&gateway, &mut stderr, "names = [\"btc*\"]\nnmaes = 1\n", same).await;
    assert!(said.contains("line 2: unknown field `nmaes`"), "{said}");
    assert_eq!(status(&gateway, "ethusdt@trade").await, 200);
    assert_ne!(status(&gateway, "btcusdt@trade").await, 200);
}

#[tokio::test]
async fn names_that_were_read_are_open_again_after_a_restart() {
    let server = serving(|peer| async move {
        peer.send("tick").await;
        peer.closed().await;
    })
    .await;
    let url = server.url().to_string();
    let state = Temporary::new("state", "");
    std::fs::remove_file(state.path()).unwrap();
    let arguments = ["--anonymous", "--upstream", &url, "--state", state.path()];
    let gateway = Gateway::start(&arguments).await;
    let manager = gateway.manager();
    let mut reader = manager.subscribe::<Text>("kept").unwrap();
    within(reader.recv()).await.unwrap().unwrap();
    gateway.program.signal(Signal::TERM);
    assert_eq!(gateway.program.end().await.code, Some(0));
    drop(reader);
    within(manager.shutdown()).await;
    let before = server.dials();

    let again = Gateway::start(&arguments).await;
    assert_eq!(server.dials(), before + 1, "it was dialled before anybody asked");
    assert_eq!(again.get("/readyz").await.0, 200);
    again.program.signal(Signal::TERM);
    assert_eq!(again.program.end().await.code, Some(0));

    std::fs::write(state.path(), "{").unwrap();
    let damaged = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--anonymous",
        "--upstream",
        &url,
        "--state",
        state.path(),
    ])
    .await;
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.stderr.contains("cannot read"), "{}", damaged.stderr);
}

#[cfg(unix)]
#[tokio::test]
async fn two_processes_do_not_share_a_state_file_and_a_killed_one_leaves_it_free() {
    let state = Temporary::new("shared", "");
    std::fs::remove_file(state.path()).unwrap();
    let arguments = ["--demo", "--state", state.path()];
    let first = Gateway::start(&arguments).await;
    let second = run(&[&["serve", "--listen", "127.0.0.1:0"], &arguments[..]].concat()).await;
    assert_eq!((second.code, second.text()), (Some(1), String::new()), "{second:?}");
    let what = format!("--state: {} is in use", state.path());
    assert!(second.stderr.contains(&what), "{}", second.stderr);
    assert_eq!(first.get("/readyz").await.0, 200, "the first one goes on");
    first.program.signal(Signal::KILL);
    assert_eq!(first.program.end().await.code, None);
    let next = Gateway::start(&arguments).await;
    assert_eq!(next.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn without_a_place_for_operators_the_dashboard_is_where_clients_are() {
    let gateway = Gateway::start(&["--demo"]).await;
    for page in ["/", "/try", "/overview", "/client.js"] {
        assert_eq!(gateway.get(page).await.0, 200, "{page}");
    }
    assert!(gateway.lines.contains(&format!("dashboard http://{}/", gateway.at)));
}

#[tokio::test]
async fn a_demo_without_a_place_for_operators_shows_all_and_lets_nobody_change_anything() {
    let gateway = Gateway::start(&["--demo"]).await;
    assert_eq!(gateway.admin.as_ref(), Some(&gateway.at));
    for path in ["/livez", "/readyz", "/health", "/metrics", "/stats"] {
        assert_eq!(gateway.get(path).await.0, 200, "{path}");
    }
    assert_eq!(ask(&gateway.at, "POST", "/admin/sweep", "").await.0, 403);
    let upstream = ["--anonymous", "--upstream", "ws://127.0.0.1:1"];
    let no_demo = Gateway::start(&upstream).await;
    for path in ["/metrics", "/stats", "/admin/sweep"] {
        assert_eq!(no_demo.get(path).await.0, 404, "{path}");
    }
}

/// The first event of a stream of events, for one who has seen `last`, if anything.
async fn first_event(at: &str, last: Option<&str>) -> String {
    let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    let request = format!("GET /sse/btcusdt@trade HTTP/1.1\r\nhost: {at}\r\n{last}\r\n");
    let mut socket = BufReader::new(TcpStream::connect(at).await.unwrap());
    socket.write_all(request.as_bytes()).await.unwrap();
    let (mut event, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        assert_ne!(within(socket.read_line(&mut line)).await.unwrap(), 0, "it ended: {event}");
        let is_field = ["id: ", "event: ", "data: "].iter().any(|field| line.starts_with(field));
        if is_field {
            event += &line;
        } else if event.contains("data: ") && line.trim().is_empty() {
            return event;
        }
    }
}

fn id_of(event: &str) -> &str {
    let id = event.lines().find_map(|line| line.strip_prefix("id: "));
    id.unwrap_or_else(|| panic!("no id: {event}"))
}

/// An id's epoch and number.
fn epoch_and_number(id: &str) -> (&str, u64) {
    let (epoch, number) = id.split_once('-').unwrap();
    (epoch, number.parse().unwrap())
}

#[tokio::test]
async fn who_has_events_from_before_a_restart_is_told_of_a_gap_and_no_id_is_given_again() {
    let exchange = wsmux::test_util::MockExchange::builder().rate(100).start().await.unwrap();
    let (url, state) = (exchange.url(), Temporary::new("places", ""));
    std::fs::remove_file(state.path()).unwrap();
    let arguments = ["--anonymous", "--upstream", &url, "--state", state.path()];
    let mut last: Option<String> = None;
    // The second and the third are gone before they write a second time.
    for signal in [Signal::TERM, Signal::KILL, Signal::KILL, Signal::TERM] {
        let gateway = Gateway::start(&arguments).await;
        if let Some(id) = &last {
            let told = first_event(&gateway.at, Some(id)).await;
            assert!(told.contains("event: gap") && told.contains("\"replayed\""), "{told}");
            // Who was told goes on from there.
            let next = first_event(&gateway.at, Some(id_of(&told))).await;
            assert!(!next.contains("event: gap"), "{next}");
        }
        // Who comes for the first time has missed nothing.
        let event = first_event(&gateway.at, None).await;
        assert!(!event.contains("event: gap"), "{event}");
        let id = id_of(&event).to_owned();
        if let Some(before) = last.replace(id.clone()) {
            let (before, now) = (epoch_and_number(&before), epoch_and_number(&id));
            assert!(before.0 == now.0 && before.1 < now.1, "{before:?} {now:?}");
        }
        let next = first_event(&gateway.at, Some(&id)).await;
        assert!(!next.contains("event: gap"), "{next}");
        gateway.program.signal(signal);
        let _ = gateway.program.end().await;
    }
    // Without the file, or where it is damaged and then taken away, it begins anew, and says so too.
    std::fs::write(state.path(), "{").unwrap();
    let damaged = [&["serve", "--listen", "127.0.0.1:0"][..], &arguments].concat();
    assert_eq!(run(&damaged).await.code, Some(1));
    std::fs::remove_file(state.path()).unwrap();
    let gateway = Gateway::start(&arguments).await;
    let told = first_event(&gateway.at, last.as_deref()).await;
    assert!(told.contains("event: gap") && told.contains("\"replayed\""), "{told}");
}
