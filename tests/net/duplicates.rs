//! Managers of one process that have sockets to one base URL without knowing of each other.

use wsmux::protocol::Direct;
use wsmux::test_util::{MockServer, Peer};
use wsmux::{Figure, FindingKind, HealthStatus, Message, Severity, Subscription, WsManager};

use crate::{builder, config, within};

/// A manager of the streams under a base, with a socket for `name`.
async fn connected(
    server: &MockServer,
    base: &str,
    name: &str,
) -> (WsManager, Subscription<Message>, Peer) {
    let manager = builder(Direct::new(base).unwrap(), config()).build().unwrap();
    let mut stream = manager.subscribe::<Message>(name).unwrap();
    let peer = within(server.accept()).await;
    within(stream.ready()).await.unwrap();
    (manager, stream, peer)
}

/// How many other managers are found to have sockets to the same base.
fn others(manager: &WsManager) -> u64 {
    let health = manager.health();
    match &health.findings[..] {
        [] => {
            assert_eq!(health.status, HealthStatus::Pass);
            0
        }
        [finding] => {
            assert_eq!(finding.kind, FindingKind::DuplicateManagers);
            assert_eq!((finding.severity, &finding.stream), (Severity::Warn, &None));
            let Figure::Count(others) = finding.figure else { panic!("{finding}") };
            others
        }
        _ => panic!("{health}"),
    }
}

#[tokio::test]
async fn managers_to_one_base_are_found_while_both_have_sockets_whatever_their_names() {
    let server = MockServer::start().await.unwrap();
    let base = format!("{}/ws", server.url());
    let (one, _x, _peer) = connected(&server, &base, "x").await;
    assert_eq!(others(&one), 0);
    let (second, y, _y_peer) = connected(&server, &base, "y").await;
    assert_eq!((others(&one), others(&second)), (1, 1));
    let third = connected(&server, &base, "x").await;
    assert_eq!((others(&one), others(&third.0)), (2, 2));
    drop((y, third));
    within(server.until_sockets(1)).await;
    assert_eq!((others(&one), others(&second)), (0, 0), "a manager without sockets is none");
    drop(second);
}

#[tokio::test]
async fn clones_other_paths_and_other_credentials_are_no_duplicates_and_no_secret_is_shown() {
    let server = MockServer::start().await.unwrap();
    let host = server.url().strip_prefix("ws://").unwrap().to_owned();
    let base = format!("ws://user:canary@{host}/ws?token=canary");
    let (one, _x, _peer) = connected(&server, &base, "x").await;
    let clone = one.clone();
    let mut y = clone.subscribe::<Message>("y").unwrap();
    let _y_peer = within(server.accept()).await;
    within(y.ready()).await.unwrap();
    let mut apart = Vec::new();
    for other in [
        format!("ws://user:canary@{host}/spot?token=canary"),
        format!("ws://user:canary@{host}/ws?token=canary2"),
        format!("ws://user2:canary@{host}/ws?token=canary"),
    ] {
        apart.push(connected(&server, &other, "x").await);
    }
    assert!(apart.iter().all(|(manager, ..)| others(manager) == 0));
    assert_eq!(others(&one), 0);

    let _same = connected(&server, &base, "x").await;
    assert_eq!(others(&one), 1);
    let health = one.health();
    let printed = format!("{health} {health:?} {} {}", health.to_json(), one.diagnose());
    assert!(printed.contains(&host) && !printed.contains("canary"), "{printed}");
}
