//! A process that runs out of file descriptors, or of local ports: with real limits, in processes of
//! their own. Each test runs this binary again, to play its other half.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use futures::StreamExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use wsmux::protocol::Direct;
use wsmux::test_util::MockServer;
use wsmux::{
    CloseReason, Config, FindingKind, Limiter, Message, Status, StreamError, Subscription,
    WsManager,
};

use crate::{MS, SECOND, config, within};

/// Says to the process that it is the other half, and what the parent's server is called.
const ROLE: &str = "WSMUX_TEST_ROLE";

/// Streams that want a socket when there is nothing left.
const STREAMS: usize = 8;

/// Runs test `name` again, by `command`; its whole output is shown if it fails.
fn run_again(command: &mut Command, name: &str, role: &str) {
    let run = command.args(["--exact", name, "--nocapture"]).env(ROLE, role);
    let output = run.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// One retry only: whatever used it up would end its stream.
fn patient() -> Config {
    let mut config = config();
    config.retry.max_attempts = Some(1);
    config
}

fn manager(base: &str) -> WsManager {
    let builder = WsManager::builder(Direct::new(base).unwrap()).config(patient());
    builder.limiter(Limiter::new()).build().unwrap()
}

fn subscribe(
    manager: &WsManager,
    names: impl Iterator<Item = usize>,
) -> Vec<Subscription<Message>> {
    names.map(|i| manager.subscribe(format!("s{i}")).unwrap()).collect()
}

async fn until_exhausted(manager: &WsManager, dials: u64) {
    let mut looks = manager.metrics_every(10 * MS);
    within(async { while looks.next().await.unwrap().exhausted < dials {} }).await;
}

/// Until it says that it waits for what is missing, unless it has found some meanwhile.
async fn until_waiting(stream: &Subscription<Message>) {
    let is_told = |status: &Status| {
        matches!(status, Status::Waiting { until: Some(until), .. }
            if until.saturating_duration_since(Instant::now()) <= SECOND)
    };
    let mut statuses = stream.status_changes();
    let waits = async {
        loop {
            let status = statuses.next().await.unwrap();
            if is_told(&status) || status.is_open() {
                break;
            }
        }
    };
    within(waits).await;
}

/// Checks that those which want a socket wait for what is missing, once a second; that what is open
/// goes on; and that they have it when there is something again, with no retry used up.
async fn wait_out(
    manager: &WsManager,
    open: &mut Subscription<Message>,
    mut starved: Vec<Subscription<Message>>,
    relief: impl FnOnce(),
) {
    until_exhausted(manager, 1).await;
    let each_second: Vec<_> = manager.metrics_every(SECOND).take(4).collect().await;
    let dials = each_second[3].since(&each_second[0]).exhausted;
    let most = 4 * starved.len() as u64; // A moment at either end.
    assert!((1..=most).contains(&dials), "{dials} dials in three seconds");
    for stream in &starved {
        until_waiting(stream).await;
    }
    assert!(starved.iter().any(|stream| !stream.status().is_open()));
    let why = |stream: &Subscription<Message>| stream.info().unwrap().last_error;
    assert!(starved.iter().any(|stream| why(stream).is_some()), "who dialled knows why it failed");
    // What is open goes on, and is read, if late.
    within(async { while !matches!(open.recv().await, Some(Ok(_))) {} }).await;
    let kinds: Vec<_> = manager.health().findings.iter().map(|found| found.kind).collect();
    assert!(kinds.contains(&FindingKind::Exhausted), "{kinds:?}");
    assert!(open.status().is_open());

    relief();
    for stream in &mut starved {
        within(stream.ready()).await.unwrap();
    }
    let metrics = manager.metrics();
    assert_eq!((metrics.retries, metrics.disconnects), (0, 0), "no retry was used up");
    println!("{dials} dials of {} streams failed in three seconds", starved.len());
}

/// Sends a message each 10 ms on each socket.
async fn beat(server: MockServer) {
    loop {
        let peer = server.accept().await;
        tokio::spawn(async move {
            peer.delay(10 * MS);
            while peer.send("beat").await {}
        });
    }
}

#[test]
fn without_file_descriptors_dials_wait_and_open_sockets_go_on() {
    let name = "exhausted::without_file_descriptors_dials_wait_and_open_sockets_go_on";
    let runtime = Runtime::new().unwrap();
    let Ok(host) = env::var(ROLE) else {
        let server = runtime.block_on(MockServer::start()).unwrap();
        let port = server.url().rsplit_once(':').unwrap().1.to_owned();
        runtime.spawn(beat(server));
        // By address, and by a name, for which the resolver needs descriptors of its own.
        for host in ["127.0.0.1", "localhost"] {
            let exe = env::current_exe().unwrap();
            run_again(&mut Command::new(exe), name, &format!("{host}:{port}"));
        }
        return;
    };
    runtime.block_on(async {
        let manager = manager(&format!("ws://{host}/ws"));
        let mut open = manager.subscribe::<Message>("open").unwrap();
        within(open.ready()).await.unwrap();
        let limit = getrlimit(Resource::Nofile);
        // Descriptors are numbers: none is left below the lowest that is free.
        let lowest = Some(u64::from(lowest_free()));
        setrlimit(Resource::Nofile, Rlimit { current: lowest, ..limit }).unwrap();
        let starved = subscribe(&manager, 0..STREAMS);
        wait_out(&manager, &mut open, starved, || {
            setrlimit(Resource::Nofile, limit).unwrap();
        })
        .await;
    });
}

fn lowest_free() -> u32 {
    use std::os::fd::AsRawFd as _;

    fs::File::open("/dev/null").unwrap().as_raw_fd().try_into().unwrap()
}

/// A network with ten local ports and no IPv6, in which the rest of the line runs.
const SMALL_NETWORK: &str = "ip link set lo up \
    && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 \
    && echo '40000 40009' > /proc/sys/net/ipv4/ip_local_port_range \
    && exec \"$0\" \"$@\"";

#[test]
fn without_local_ports_dials_wait_and_without_a_way_they_fail() {
    let name = "exhausted::without_local_ports_dials_wait_and_without_a_way_they_fail";
    if env::var(ROLE).is_err() {
        let network = |program: &str| {
            let mut command = Command::new("unshare");
            command.args([
                "--user",
                "--map-root-user",
                "--net",
                "sh",
                "-c",
                SMALL_NETWORK,
                program,
            ]);
            command
        };
        if !network("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return println!("SKIPPED: no network of one's own can be made here");
        }
        let exe = env::current_exe().unwrap();
        return run_again(&mut network(exe.to_str().unwrap()), name, "alone");
    }
    Runtime::new().unwrap().block_on(async {
        let server = MockServer::start().await.unwrap();
        let url = server.url().to_owned();
        tokio::spawn(beat(server));
        let manager = manager(&format!("{url}/ws"));
        let mut open = manager.subscribe::<Message>("open").unwrap();
        within(open.ready()).await.unwrap();
        let all = subscribe(&manager, 0..20);
        until_exhausted(&manager, 3).await;
        let starved: Vec<_> = all.into_iter().filter(|stream| !stream.status().is_open()).collect();
        assert!(starved.len() >= 8, "{} of 20", starved.len());
        wait_out(&manager, &mut open, starved, || {
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 41000").unwrap();
        })
        .await;

        // The same error, from a machine that has ports and no IPv6: it is a failure like others.
        let lost = self::manager(&url.replace("127.0.0.1", "[::1]"));
        let mut stream = lost.subscribe::<Message>("x").unwrap();
        let Some(Err(StreamError::Closed(reason))) = within(stream.recv()).await else { panic!() };
        assert!(matches!(reason, CloseReason::RetriesExhausted { attempts: 2, .. }), "{reason}");
        assert_eq!(lost.metrics().exhausted, 0);
    });
}
