//! How much is said on a socket whose server takes only so much.

use futures::FutureExt as _;
use tokio::time::{self, Instant};
use wsmux::protocol::{Counted, MessageRate};
use wsmux::test_util::Budget;
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{Config, Message, SendError, Status, Subscription, WsManager};

use crate::lines::{Lines, confirm, heard};
use crate::{MS, SECOND, config, manager_of, settle};

/// How long a period of a second is where frames leave.
const PERIOD: time::Duration = time::Duration::from_millis(1250);

/// Joins of one name each, for a server that counts everything.
fn paced(count: u32, config: Config) -> (WsManager, MemoryServer) {
    counting(MessageRate::new(count, SECOND, Counted::Everything), config)
}

fn counting(rate: MessageRate, config: Config) -> (WsManager, MemoryServer) {
    let lines =
        Lines { batch: Some(1), capacity: Some(2048), rate: Some(rate), ..Lines::default() };
    manager_of(lines, config)
}

fn subscribe(manager: &WsManager, name: &str) -> Subscription<Message> {
    manager.subscribe(name).unwrap()
}

fn subscribe_to(manager: &WsManager, count: usize) -> Vec<Subscription<Message>> {
    (0..count).map(|i| subscribe(manager, &format!("a{i}"))).collect()
}

/// What a server that takes five frames a second has seen of a client.
#[derive(Debug, Default, Eq, PartialEq)]
struct Audit {
    joins: usize,
    others: usize,
    pongs: usize,
    late_pongs: usize,
    violations: usize,
}

/// Confirms all joins, pings each 20 s, and counts, until there were so many joins or so much time.
async fn audit(peer: &mut Peer, joins: usize, time: time::Duration) -> Audit {
    let (mut audit, mut budget) = (Audit::default(), Budget::new(5, SECOND));
    let (end, mut next_ping) = (Instant::now() + time, Instant::now() + 20 * SECOND);
    let mut pinged = None;
    while audit.joins < joins && Instant::now() < end {
        tokio::select! {
            biased;
            frame = peer.recv() => {
                audit.violations += usize::from(!budget.spend(Instant::now()));
                match frame.expect("nobody closes it") {
                    Frame::Pong(_) => {
                        audit.pongs += 1;
                        audit.late_pongs += usize::from(pinged.take() != Some(Instant::now()));
                    }
                    Frame::Data(line) => match line.as_text().unwrap().strip_prefix('+') {
                        Some(name) => {
                            audit.joins += 1;
                            peer.send(format!("={name}"));
                        }
                        None => audit.others += 1,
                    },
                    _ => audit.others += 1,
                }
            }
            () = time::sleep_until(next_ping) => {
                peer.ping();
                pinged = Some(next_ping);
                next_ping += 20 * SECOND;
            }
            () = time::sleep_until(end) => {}
        }
    }
    audit
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_1024_names_never_exceeds_five_frames_a_second_with_pings_and_pongs() {
    let (manager, mut server) = paced(5, config().join_timeout(SECOND * 2));
    let streams = subscribe_to(&manager, 1024);
    let mut peer = server.accept().await;
    let start = Instant::now();
    let audit = audit(&mut peer, 1024, 1000 * SECOND).await;
    let took = start.elapsed();
    settle().await;
    println!("1024 joins at 5 frames/s took {took:?}: {audit:?}");
    assert_eq!((audit.violations, audit.late_pongs, audit.others), (0, 0, 0), "{audit:?}");
    // Four in a second and a quarter, and one less for each pong, which takes a place of its own.
    assert_eq!(audit.pongs, 16);
    assert!(took >= 318 * SECOND && took <= 325 * SECOND, "{took:?}");
    assert!(!server.has_dial(), "no join was overdue, though the last waited for minutes");
    assert_eq!(manager.metrics().retries, 0);
    assert_eq!(streams.iter().filter(|stream| stream.status().is_open()).count(), 1024);
}

#[tokio::test(start_paused = true)]
async fn an_audit_notices_a_client_that_is_not_paced() {
    let lines = Lines { batch: Some(1), capacity: Some(2048), ..Lines::default() };
    let (manager, mut server) = manager_of(lines, config());
    let _streams = subscribe_to(&manager, 64);
    let mut peer = server.accept().await;
    assert_eq!(audit(&mut peer, 64, SECOND).await.violations, 59);
}

#[tokio::test(start_paused = true)]
async fn names_that_come_and_go_all_the_time_stay_within_the_budget() {
    let (manager, mut server) = paced(5, config());
    let _stays = subscribe(&manager, "a");
    let mut peer = server.accept().await;
    let audited = tokio::spawn(async move { audit(&mut peer, usize::MAX, 300 * SECOND).await });
    let mut streams = Vec::new();
    for i in 0..3000_usize {
        streams.push(subscribe(&manager, &format!("a{}", i % 50)));
        if streams.len() > 20 {
            drop(streams.swap_remove(i * 7 % 20));
        }
        time::sleep(100 * MS).await;
    }
    let audit = audited.await.unwrap();
    assert_eq!((audit.violations, audit.late_pongs, audit.pongs), (0, 0, 14), "{audit:?}");
    assert!(audit.joins > 400 && audit.others > 400, "{audit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_join_that_waits_for_room_is_not_overdue_and_one_that_is_written_is() {
    let (manager, mut server) = paced(2, config().join_timeout(3 * SECOND));
    let streams = subscribe_to(&manager, 6);
    let mut peer = server.accept().await;
    for turn in 0..6 {
        assert_eq!(confirm(&mut peer).await, [format!("+a{turn}")]);
        time::sleep(PERIOD).await;
    }
    assert!(streams.iter().all(|stream| stream.status().is_open()));
    let late = subscribe(&manager, "alate");
    time::sleep(SECOND * 3 - MS).await;
    assert!(matches!(late.status(), Status::Joining));
    time::sleep(2 * MS).await;
    assert!(matches!(late.status(), Status::BackingOff { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_socket_alive_goes_first_then_leaves_then_joins_then_messages() {
    let mut config = config();
    (config.heartbeat.interval, config.heartbeat.timeout) = (SECOND * 5, SECOND * 5);
    let (manager, mut server) = paced(3, config);
    let mut streams = subscribe_to(&manager, 2);
    let mut peer = server.accept().await;
    assert_eq!(confirm(&mut peer).await, ["+a0", "+a1"]);
    time::sleep(SECOND * 5 - 5 * MS).await; // The ping is due in a moment.
    for text in ["one", "two"] {
        assert_eq!(manager.send("a0", text).await, Ok(()));
    }
    assert_eq!(heard(&mut peer), ["one", "two"]);
    let mut third = Box::pin(manager.send("a0", "three"));
    assert_eq!(third.as_mut().now_or_never(), None);
    drop(streams.remove(1));
    streams.push(subscribe(&manager, "a2"));
    let mut said = Vec::new();
    for _ in 0..4 {
        time::sleep(SECOND).await;
        said.extend(heard(&mut peer));
    }
    assert_eq!(said, ["(ping)", "-a1", "+a2", "three"]);
    assert_eq!(third.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_message_of_the_programs_own_has_a_place_after_each_periods_worth_of_joins() {
    let (manager, mut server) = paced(3, config().send_ttl(20 * SECOND));
    let _streams = subscribe_to(&manager, 9);
    let mut peer = server.accept().await;
    confirm(&mut peer).await;
    let sender = manager.clone();
    let sending =
        tokio::spawn(
            async move { futures::join!(sender.send("a0", "one"), sender.send("a0", "two")) },
        );
    time::sleep(8 * SECOND).await;
    let said = heard(&mut peer);
    let place = |text: &str| said.iter().position(|line| line == text).unwrap();
    assert_eq!((place("one"), place("two")), (0, 3), "{said:?}");
    assert_eq!(said.len(), 9);
    assert_eq!(sending.await.unwrap(), (Ok(()), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_finds_no_room_in_its_time_is_never_written() {
    let minute = MessageRate::new(2, 60 * SECOND, Counted::Messages);
    let (manager, mut server) = counting(minute, config());
    let _stream = subscribe(&manager, "a");
    let mut peer = server.accept().await;
    confirm(&mut peer).await;
    assert_eq!(manager.send("a", "one").await, Ok(()));
    assert_eq!(manager.send("a", "two").await, Err(SendError::Expired));
    time::sleep(60 * SECOND).await;
    assert_eq!(heard(&mut peer), ["one"]);
    assert_eq!(manager.send("a", "three").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_name_left_and_wanted_again_while_there_is_no_room_is_left_first_and_joined_anew() {
    let (manager, mut server) = paced(2, config());
    let _stays = subscribe(&manager, "a");
    let mut peer = server.accept().await;
    confirm(&mut peer).await;
    time::sleep(PERIOD).await;
    let stream = subscribe(&manager, "ab");
    settle().await;
    assert_eq!(heard(&mut peer), ["+ab"]);
    drop(stream);
    settle().await;
    let mut stream = subscribe(&manager, "ab");
    settle().await;
    peer.send_all(["=ab", "ab:of the first join"]); // What confirms it crosses with the leave.
    settle().await;
    assert!(!stream.status().is_open());
    time::sleep(PERIOD).await;
    assert_eq!(heard(&mut peer), ["-ab"]);
    time::sleep(PERIOD).await;
    assert_eq!(confirm(&mut peer).await, ["+ab"]);
    peer.send("ab:of the second");
    assert_eq!(crate::message(&mut stream).await, "of the second");
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_server_is_told_to_stop_is_no_fault_of_its() {
    let (manager, mut server) = paced(2, config());
    let (_stays, leaves) = (subscribe(&manager, "a"), subscribe(&manager, "ab"));
    let mut peer = server.accept().await;
    while !leaves.status().is_open() {
        confirm(&mut peer).await;
        time::sleep(MS).await;
    }
    let _asked = manager.send("a", "the last that there is room for").now_or_never();
    drop(leaves);
    settle().await;
    peer.send_all(["ab:on", "ac:for nobody"]);
    settle().await;
    assert!(!heard(&mut peer).contains(&"-ab".to_owned()), "there is no room yet");
    assert_eq!(manager.metrics().unroutable, 1);
    time::sleep(PERIOD).await;
    assert_eq!(heard(&mut peer), ["-ab"]);
    peer.send("ab:and on");
    settle().await;
    assert_eq!(manager.metrics().unroutable, 2, "it knows");
}

#[tokio::test(start_paused = true)]
async fn names_that_come_and_go_while_there_is_no_room_cost_no_message() {
    let (manager, mut server) = paced(2, config());
    let _stays = subscribe(&manager, "a");
    let mut peer = server.accept().await;
    confirm(&mut peer).await;
    for i in 0..100 {
        drop(subscribe(&manager, &format!("a{i}")));
        time::sleep(5 * MS).await;
    }
    time::sleep(10 * SECOND).await;
    assert_eq!(heard(&mut peer), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_does_not_count_is_not_held_up() {
    let hour = MessageRate::new(3, 3600 * SECOND, Counted::Joins);
    let mut config = config();
    config.heartbeat.interval = 20 * SECOND;
    let (manager, mut server) = counting(hour, config);
    let _streams = subscribe_to(&manager, 4);
    let mut peer = server.accept().await;
    let start = Instant::now();
    assert_eq!(confirm(&mut peer).await, ["+a0", "+a1", "+a2"]);
    peer.send("@100");
    for text in ["one", "two"] {
        assert_eq!(manager.send("a0", text).await, Ok(()));
    }
    time::sleep(21 * SECOND).await;
    assert_eq!(heard(&mut peer), ["one", "two", "tick", "(ping)"]);
    let (mut pings, mut has_joined) = (0, false);
    while !has_joined {
        peer.pong();
        time::sleep(20 * SECOND).await;
        let said = confirm(&mut peer).await;
        has_joined = said.contains(&"+a3".to_owned());
        pings += said.iter().filter(|line| *line == "(ping)").count();
    }
    assert!(start.elapsed() >= 3600 * SECOND && pings >= 178, "{pings}");
}

#[tokio::test(start_paused = true)]
async fn names_that_are_wanted_while_a_write_stalls_are_joined_as_soon_as_it_goes_on() {
    for rate in [None, Some(MessageRate::new(5, SECOND, Counted::Everything))] {
        let (manager, mut server) = manager_of(Lines { rate, ..Lines::default() }, config());
        let _a = subscribe(&manager, "a");
        let mut peer = server.accept().await;
        confirm(&mut peer).await;
        peer.stall(true);
        let mut sent = Box::pin(manager.send("a", "one"));
        assert_eq!(sent.as_mut().now_or_never(), None);
        settle().await;
        let _b = subscribe(&manager, "ab");
        settle().await;
        peer.stall(false);
        settle().await;
        assert_eq!(heard(&mut peer), ["one", "+ab"]);
        assert_eq!(sent.await, Ok(()));
    }
}
