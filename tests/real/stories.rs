//! What every server is put through: it is restarted, killed, frozen and left.

use rustix::process::Signal;
use wsmux::protocol::DisconnectReason;
use wsmux::{Config, WsManager};

use crate::{Reader, SLACK, config, lost, measured, until_disconnected};

/// A server that counts aloud, or something that stands before one.
pub(crate) trait Server {
    /// A manager whose streams are this server's.
    fn manager(&self, config: Config) -> WsManager;

    /// Ends it by `signal` and starts it again at the same port.
    async fn restart(&mut self, signal: Signal);

    /// Stops it where it is, or lets it go on.
    fn signal(&mut self, signal: Signal);

    /// Waits until it has a socket.
    async fn until_used(&mut self) {}

    /// Waits until it has no socket, as it says itself and as the kernel does.
    async fn until_unused(&mut self);
}

/// The stories of one server, each a test. `$start` may come to nothing where it is not installed;
/// `$farewell` is the reason of the gap when it is asked to end.
macro_rules! stories {
    ($server:ident, $start:expr, $farewell:expr) => {
        mod $server {
            use super::*;

            #[tokio::test]
            async fn a_restart_is_one_gap_with_its_reason() {
                if let Some(server) = $start.await {
                    crate::stories::restarted(server, $farewell).await;
                }
            }

            #[tokio::test]
            async fn a_frozen_server_is_found_dead_within_the_heartbeat() {
                if let Some(server) = $start.await {
                    crate::stories::frozen(server, crate::config()).await;
                }
            }

            #[tokio::test]
            async fn the_last_drop_leaves_no_socket() {
                if let Some(server) = $start.await {
                    crate::stories::left(server).await;
                }
            }
        }
    };
}
pub(crate) use stories;

pub(crate) async fn restarted(mut server: impl Server, farewell: DisconnectReason) {
    let manager = server.manager(config());
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    server.restart(Signal::TERM).await;
    assert_eq!(reader.one_gap().await, farewell, "it was asked to end");
    server.restart(Signal::KILL).await;
    assert_eq!(reader.one_gap().await, DisconnectReason::Ended, "it was killed");
    assert_eq!(manager.metrics().disconnects, 2);
}

pub(crate) async fn frozen(mut server: impl Server, config: Config) {
    let limit = config.heartbeat.interval + config.heartbeat.timeout;
    let manager = server.manager(config);
    let mut events = manager.events();
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    server.signal(Signal::STOP);
    let (took, reason) = lost(&mut events).await;
    assert_eq!(reason, DisconnectReason::HeartbeatTimeout);
    measured(&format!("found dead after {took:.1?}, of a heartbeat of {limit:.1?}"));
    assert!(took < limit + SLACK, "{took:?}");
    server.signal(Signal::CONT);
    assert_eq!(reader.one_gap().await, DisconnectReason::HeartbeatTimeout);
}

pub(crate) async fn left(mut server: impl Server) {
    let manager = server.manager(config());
    let mut reader = Reader::new(&manager, "numbers");
    let other = Reader::new(&manager, "numbers");
    reader.numbers().await;
    server.until_used().await;
    drop(other);
    reader.numbers().await;
    drop(reader);
    until_disconnected(&manager).await;
    server.until_unused().await;
}
