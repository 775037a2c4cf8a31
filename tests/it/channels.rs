//! Phoenix and Supabase: the whole client against the servers' mocks, with paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::time::{self, Instant};
use wsmux::protocol::{Changes, Phoenix, Protocol, Supabase, SupabaseChannel};
use wsmux::test_util::{Answers, Mock, MockPhoenix, MockSupabase, Service};
use wsmux::{
    CloseReason, Credentials, DisconnectReason, Gap, Limiter, Message, Subscription, Token,
    WsManager, WsManagerBuilder,
};

use crate::{MINUTE, MS, SECOND, config, end, gap, message, settle};

fn builder<S: Service + Default>(protocol: impl Protocol) -> (Mock<S>, WsManagerBuilder) {
    let (mock, transport) = Mock::in_memory(S::default());
    let builder = WsManager::builder(protocol).config(config()).transport(transport).seed(7);
    (mock, builder.limiter(Limiter::new()))
}

fn phoenix() -> (Mock<MockPhoenix>, WsManager) {
    let (mock, builder) = builder(Phoenix::new("ws://mock/socket/websocket").unwrap());
    (mock, builder.build().unwrap())
}

fn supabase() -> (Mock<MockSupabase>, WsManagerBuilder) {
    let todos = Changes::of("public", "todos").event("INSERT");
    let room = SupabaseChannel::default().changes("todos", todos);
    builder(Supabase::new("https://mock", "sb_publishable_canary").unwrap().channel("room", room))
}

async fn joined<const N: usize>(
    manager: &WsManager,
    names: [&str; N],
) -> [Subscription<Message>; N] {
    let mut streams = names.map(|name| manager.subscribe(name).unwrap());
    for stream in &mut streams {
        stream.ready().await.unwrap();
    }
    streams
}

fn publish(mock: &Mock<MockPhoenix>, topic: &str, event: &str, number: u32) {
    mock.tell(|phoenix, out| phoenix.publish(topic, event, &json!(number), out));
}

fn no_faults<S: Service>(mock: &Mock<S>) {
    assert_eq!(mock.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn names_share_a_socket_and_names_of_one_topic_a_channel() {
    let (mock, manager) = phoenix();
    let [mut a, mut whole, mut u] = joined(&manager, ["t#a", "t", "u#a"]).await;
    assert_eq!((mock.opened(), mock.tell(|phoenix, _| phoenix.joins().len())), (1, 2));
    publish(&mock, "t", "a", 1);
    publish(&mock, "t", "b", 2);
    publish(&mock, "u", "a", 3);
    assert_eq!((message(&mut a).await, message(&mut u).await), ("1".into(), "3".into()));
    for (event, number) in [("a", 1), ("b", 2)] {
        let frame = format!(r#"[null,null,"t","{event}",{number}]"#);
        assert_eq!(message(&mut whole).await, frame);
    }
    assert!(a.next().now_or_never().is_none());
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn version_one_says_the_same() {
    let (mock, builder) = builder::<MockPhoenix>(Phoenix::new("ws://mock").unwrap().v1());
    let manager = builder.build().unwrap();
    let [mut a] = joined(&manager, ["t#a"]).await;
    publish(&mock, "t", "a", 1);
    assert_eq!(message(&mut a).await, "1");
    mock.tell(|phoenix, out| phoenix.crash("t", out));
    assert!(matches!(gap(&mut a).await, Gap::Reconnected { .. }));
    publish(&mock, "t", "a", 2);
    assert_eq!(message(&mut a).await, "2");
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_channel_leaves_its_neighbours_undisturbed() {
    let (mock, manager) = phoenix();
    mock.tell(|phoenix, _| phoenix.reject("bad", "unmatched topic"));
    let mut bad = manager.subscribe::<Message>("bad").unwrap();
    let [mut good] = joined(&manager, ["good#a"]).await;
    let CloseReason::Rejected { reason } = end(&mut bad).await else { panic!() };
    assert_eq!(reason.as_str(), "unmatched topic");
    publish(&mock, "good", "a", 1);
    assert_eq!(message(&mut good).await, "1");
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_costs_each_name_one_gap() {
    let (mock, manager) = phoenix();
    let [mut t, mut u] = joined(&manager, ["t#a", "u#a"]).await;
    mock.drop_all();
    for stream in [&mut t, &mut u] {
        assert!(matches!(gap(stream).await, Gap::Reconnected { .. }));
    }
    publish(&mock, "t", "a", 1);
    publish(&mock, "u", "a", 2);
    assert_eq!((message(&mut t).await, message(&mut u).await), ("1".into(), "2".into()));
    assert_eq!((mock.opened(), mock.tell(|phoenix, _| phoenix.joins().len())), (2, 4));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_crashes_is_joined_again_and_the_others_go_on() {
    for crash in [MockPhoenix::crash, MockPhoenix::close] {
        let (mock, manager) = phoenix();
        let [mut t, mut u] = joined(&manager, ["t#a", "u#a"]).await;
        mock.tell(|phoenix, out| crash(phoenix, "t", out));
        publish(&mock, "u", "a", 1);
        assert_eq!(message(&mut u).await, "1");
        let Gap::Reconnected { reason, .. } = gap(&mut t).await else { panic!() };
        assert_eq!(reason, DisconnectReason::StreamEnded);
        mock.tell(|phoenix, out| phoenix.publish_late("t", "a", &json!("late"), out));
        publish(&mock, "t", "a", 2);
        assert_eq!(message(&mut t).await, "2", "what is late is for nobody");
        assert!(u.next().now_or_never().is_none());
        assert_eq!(mock.opened(), 1);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_name_of_a_channel_leaves_it_and_the_last_of_all_closes_the_socket() {
    let (mock, manager) = phoenix();
    let [a, b, u] = joined(&manager, ["t#a", "t#b", "u#a"]).await;
    drop(a);
    settle().await;
    assert_eq!(mock.tell(|phoenix, _| phoenix.topics()), ["t", "u"]);
    drop(b);
    settle().await;
    assert_eq!(mock.tell(|phoenix, _| phoenix.topics()), ["u"]);
    drop(u);
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_quiet_socket_and_one_without_an_answer_is_given_up() {
    let (mock, manager) = phoenix();
    let [mut t] = joined(&manager, ["t#a"]).await;
    time::sleep(10 * MINUTE).await;
    assert_eq!(mock.opened(), 1);
    mock.tell(|phoenix, _| phoenix.deaf(true));
    let start = Instant::now();
    assert!(matches!(
        gap(&mut t).await,
        Gap::Reconnected { reason: DisconnectReason::Protocol, .. }
    ));
    assert!(start.elapsed() < 45 * SECOND, "{:?}", start.elapsed());
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_pushed_and_what_is_no_json_is_refused() {
    let (mock, manager) = phoenix();
    let [_t] = joined(&manager, ["t#a"]).await;
    manager.send("t#a", r#"{"x":1}"#).await.unwrap();
    assert!(manager.send("t#a", "{").await.is_err());
    manager.send("t#a", Message::binary(&b"\x01\x02"[..])).await.unwrap();
    settle().await;
    let pushes = mock.tell(|phoenix, _| phoenix.pushes().to_vec());
    let pushed = |payload| ("t".to_owned(), "a".to_owned(), payload);
    assert_eq!(pushes, [pushed(json!({"x": 1})), pushed(json!([1, 2]))]);
    mock.tell(|phoenix, out| phoenix.publish_binary("t", "a", b"\xff", out));
    no_faults(&mock);
}

/// The mock is honest about what it finds: clients that do wrong are noted.
#[tokio::test(start_paused = true)]
async fn the_mock_notes_what_a_client_does_wrong() {
    let (mock, transport) = Mock::in_memory(MockPhoenix::default());
    let lines = r#"{"event":"a","payload":1}"#;
    let direct = wsmux::protocol::Direct::new("ws://mock").unwrap();
    let builder = WsManager::builder(direct).config(config()).transport(transport);
    let manager = builder.limiter(Limiter::new()).build().unwrap();
    let [_s] = joined(&manager, ["x"]).await;
    let join = r#"{"topic":"t","event":"phx_join","payload":{},"ref":"1"}"#;
    let stray = r#"{"topic":"u","event":"a","payload":{},"ref":"2"}"#;
    for said in [lines, join, join, stray] {
        manager.send("x", said).await.unwrap();
    }
    time::sleep(61 * SECOND).await;
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    let expected =
        ["a frame that cannot be read", "t is joined twice", "a push on u", "nothing was heard"];
    assert_eq!(what.len(), 4, "{what:?}");
    assert!(
        what.iter().zip(expected).all(|(what, expected)| what.starts_with(expected)),
        "{what:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn changes_are_joined_when_they_flow_and_broadcasts_with_the_channel() {
    let (mock, builder) = supabase();
    let manager = builder.build().unwrap();
    mock.tell(|supabase, _| supabase.withhold_changes(true));
    mock.answers(Answers::After(SECOND));
    let mut changes = manager.subscribe::<Message>("room#changes:todos").unwrap();
    let [mut cursors] = joined(&manager, ["room#broadcast:cursor"]).await;
    settle().await;
    assert!(!changes.status().is_open());
    let flow = |supabase: &mut MockSupabase, out: &mut _| {
        supabase.system("room", "postgres_changes", "ok", "Subscribed to PostgreSQL", out);
        supabase.change("INSERT", "todos", &json!({"id": 1}), out);
        supabase.change("DELETE", "todos", &json!({"id": 2}), out);
        supabase.change("INSERT", "others", &json!({"id": 3}), out);
        supabase.broadcast("room", "cursor", &json!([4]), out);
    };
    mock.tell(flow);
    assert!(message(&mut changes).await.contains(r#""record":{"id":1}"#));
    assert_eq!(message(&mut cursors).await, "[4]");
    assert!(changes.next().now_or_never().is_none());
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

/// A provider that counts: `jwt-0`, `jwt-1`, …
fn counted(builder: WsManagerBuilder) -> (Arc<AtomicUsize>, WsManager) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let credentials = Credentials::new(move |_| {
        let token = format!("jwt-{}", count.fetch_add(1, Relaxed));
        async move { Ok::<_, std::io::Error>(Token::new(token)) }
    });
    (asked, builder.credentials(credentials.in_band()).build().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_said_on_the_open_socket_and_in_later_joins() {
    let (mock, builder) = supabase();
    let (_, manager) = counted(builder);
    let [mut room, _hall] = joined(&manager, ["room#broadcast:x", "hall#presence"]).await;
    manager.rotate_credentials();
    time::sleep(SECOND).await;
    assert_eq!(mock.tell(|supabase, _| supabase.fresh_tokens().to_vec()), ["jwt-1", "jwt-1"]);
    let [_late] = joined(&manager, ["later#presence"]).await;
    let joins = mock.tell(|supabase, _| supabase.phoenix().joins());
    let tokens: Vec<_> =
        joins.iter().map(|(_, join)| join["access_token"].as_str().unwrap()).collect();
    assert_eq!(tokens, ["jwt-0", "jwt-0", "jwt-1"]);
    mock.tell(|supabase, out| supabase.broadcast("room", "x", &json!(1), out));
    assert_eq!(message(&mut room).await, "1", "and no gap");
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_replaced_and_one_that_stays_bad_ends_the_streams() {
    let (mock, builder) = supabase();
    let (asked, manager) = counted(builder);
    let [mut room] = joined(&manager, ["room#broadcast:x"]).await;
    mock.tell(|supabase, out| supabase.expire("room", out));
    assert!(matches!(gap(&mut room).await, Gap::Reconnected { .. }));
    assert_eq!(asked.load(Relaxed), 2);
    mock.tell(|supabase, out| {
        supabase.only_token("another");
        supabase.expire("room", out);
    });
    assert!(matches!(end(&mut room).await, CloseReason::Unauthorized { .. }));
    assert_eq!(asked.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_refused_ends_waits_or_asks_for_a_token_by_its_status() {
    for (status, fatal) in [(401, false), (403, true), (404, true)] {
        let (mock, builder) = supabase();
        mock.refuse_next([status; 3]);
        let mut room = builder.build().unwrap().subscribe::<Message>("room").unwrap();
        let reason = end(&mut room).await;
        let text = format!("{reason:?} {reason}");
        assert!(!text.contains("canary"), "{text}");
        match fatal {
            true => assert!(matches!(reason, CloseReason::Fatal { .. }), "{reason:?}"),
            false => assert!(matches!(reason, CloseReason::Unauthorized { .. }), "{reason:?}"),
        }
    }
    let (mock, builder) = supabase();
    let manager = builder.build().unwrap();
    mock.refuse_next([429]);
    let start = Instant::now();
    let [_room] = joined(&manager, ["room"]).await;
    assert!(start.elapsed() > Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(start.elapsed() < MINUTE + MS);
}
