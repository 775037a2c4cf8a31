//! Links that are cut without a word, between network namespaces that a test makes.
//!
//! The server runs in a namespace of its own, behind a pair of devices; nftables drops all that
//! comes to it and goes from it. Neither end is told, as when a cable is pulled.

use std::process::{self, Stdio};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use wsmux::protocol::DisconnectReason;
use wsmux::{Config, WsManager};

use crate::numbers::Numbers;
use crate::program::installed;
use crate::stories::Server as _;
use crate::{
    Reader, SLACK, builder, config, failed_dial, lost, measured, until_disconnected, within,
};

/// Drops everything.
const CUT: &str = "table inet link {
    chain in { type filter hook input priority 0; policy drop; }
    chain out { type filter hook output priority 0; policy drop; }
}
";

/// Answers each packet for a TCP connection as if there were none.
const REJECT: &str = "table inet link {
    chain in { type filter hook input priority 0; meta l4proto tcp reject with tcp reset; }
}
";

const HEAL: &str = "flush ruleset\n";

/// A namespace with a server, and the link to it.
#[derive(Debug)]
struct Link {
    name: String,
    server: Numbers,
    /// The third byte of its addresses.
    subnet: u8,
}

impl Link {
    async fn start(subnet: u8) -> Option<Self> {
        installed(&["ip", "nft"])?;
        let mut server = Numbers::node().await?;
        let name = format!("wsmux{}-{subnet}", process::id());
        if !ran("ip", &["netns", "add", &name], "").await {
            crate::skipped("may not make a network namespace");
            return None;
        }
        let link = |server| Self { name: name.clone(), server, subnet };
        let (here, there) = (format!("wsmux{subnet}h"), format!("wsmux{subnet}t"));
        for command in [
            format!("link add {here} type veth peer name {there} netns {name}"),
            format!("addr add 10.91.{subnet}.1/30 dev {here}"),
            format!("link set {here} up"),
            format!("-n {name} addr add 10.91.{subnet}.2/30 dev {there}"),
            format!("-n {name} link set {there} up"),
        ] {
            let arguments: Vec<_> = command.split(' ').collect();
            if !ran("ip", &arguments, "").await {
                drop(link(server));
                crate::skipped("may not make network devices");
                return None;
            }
        }
        server.restart_by(&["ip", "netns", "exec", &name]).await;
        Some(link(server))
    }

    async fn rules(&self, rules: &str) {
        let command = ["netns", "exec", &self.name, "nft", "--file", "-"];
        assert!(ran("ip", &command, rules).await, "{rules}");
    }

    fn manager(&self, config: Config) -> WsManager {
        let url = format!("ws://10.91.{}.2:{}", self.subnet, self.server.port());
        builder(wsmux::protocol::Direct::new(&url).unwrap(), config).build().unwrap()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The devices go with it, once the server has gone as well.
        let _ = process::Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

async fn ran(program: &str, arguments: &[&str], input: &str) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    within(child.wait()).await.unwrap().success()
}

#[tokio::test]
async fn a_link_that_is_cut_is_found_dead_within_the_heartbeat_and_comes_back_with_one_gap() {
    let Some(link) = Link::start(1).await else { return };
    let config = config();
    let limit = config.heartbeat.interval + config.heartbeat.timeout;
    let manager = link.manager(config);
    let mut events = manager.events();
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    link.rules(CUT).await;
    let (took, reason) = lost(&mut events).await;
    assert_eq!(reason, DisconnectReason::HeartbeatTimeout);
    measured(&format!("found dead after {took:.1?}, of a heartbeat of {limit:.1?}"));
    assert!(took < limit + SLACK, "{took:?}");
    assert_eq!(failed_dial(&mut events).await.0, DisconnectReason::HeartbeatTimeout);
    assert_eq!(failed_dial(&mut events).await.0, DisconnectReason::ConnectTimeout);
    link.rules(HEAL).await;
    assert_eq!(reader.one_gap().await, DisconnectReason::HeartbeatTimeout);
}

#[tokio::test]
async fn the_last_drop_over_a_link_that_is_cut_ends_within_the_close_timeout() {
    let Some(link) = Link::start(2).await else { return };
    let manager = link.manager(config());
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    link.rules(CUT).await;
    let start = tokio::time::Instant::now();
    drop(reader);
    until_disconnected(&manager).await;
    assert!(start.elapsed() < Config::default().close_timeout + SLACK, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_link_that_is_reset_is_one_gap() {
    let Some(mut link) = Link::start(3).await else { return };
    let manager = link.manager(config());
    let mut events = manager.events();
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    link.rules(REJECT).await;
    let reset = DisconnectReason::Io(std::io::ErrorKind::ConnectionReset);
    assert_eq!(lost(&mut events).await.1, reset);
    link.rules(HEAL).await;
    assert_eq!(reader.one_gap().await, reset);
    drop(reader);
    until_disconnected(&manager).await;
    // The reset reached only the client: the server's end of the old socket is its own to find out.
    link.server.signal(rustix::process::Signal::KILL);
}
