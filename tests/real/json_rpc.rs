//! JSON-RPC against a node that others wrote: npm's `hardhat`, which has `eth_subscribe`.

use std::path::Path;

use futures::{FutureExt as _, StreamExt as _};
use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;
use wsmux::protocol::JsonRpc;
use wsmux::{
    CloseReason, Config, Gap, Message, RequestError, StreamError, Subscription, WsManager,
};

use crate::program::{Program, free_port};
use crate::{builder, config, node, within};

/// Code of a contract that logs nothing, once, when it is made: `LOG0` of no bytes.
const LOGS: &str = "0x60006000a000";

/// A node with a chain of its own, which is mined as transactions come.
async fn ethereum(installed: &Path, port: u16) -> Program {
    let config = installed.join("hardhat.config.cjs");
    std::fs::write(&config, "module.exports = {};\n").unwrap();
    let mut command = Command::new("node");
    command.arg(installed.join("node_modules/hardhat/internal/cli/cli.js"));
    command.arg("--config").arg(config).args(["node", "--hostname", "127.0.0.1", "--port"]);
    command.arg(port.to_string()).current_dir(installed);
    command.env("HARDHAT_DISABLE_TELEMETRY_PROMPT", "true");
    let mut program = Program::start(command);
    program.says("Started HTTP and WebSocket JSON-RPC server").await;
    program
}

async fn json(stream: &mut Subscription<Message>) -> Value {
    match within(stream.next()).await {
        Some(Ok(message)) => serde_json::from_str(message.as_text().unwrap()).unwrap(),
        other => panic!("not a message: {other:?}"),
    }
}

async fn ask(manager: &WsManager, body: &str) -> Value {
    let reply = within(manager.request(JsonRpc::NEW_HEADS, body)).await.unwrap();
    serde_json::from_str(reply.message().unwrap().as_text().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_brings_heads_logs_and_replies_on_one_socket_and_after_its_restart() {
    let Some(installed) = node::package("hardhat") else { return };
    let port = free_port();
    let program = ethereum(&installed, port).await;
    let rpc = JsonRpc::new(&format!("ws://127.0.0.1:{port}")).unwrap();
    let manager = builder(rpc, Config::default().retry(config().retry)).build().unwrap();
    let pending = JsonRpc::NEW_PENDING_TRANSACTIONS;
    let names = [JsonRpc::NEW_HEADS, "logs {}", pending];
    let [mut heads, mut logs, mut hashes] = names.map(|name| manager.subscribe(name).unwrap());
    for stream in [&mut heads, &mut logs, &mut hashes] {
        within(stream.ready()).await.unwrap();
    }
    let mut nope = manager.subscribe::<Message>("nope").unwrap();
    let end = within(nope.next()).await;
    assert!(
        matches!(end, Some(Err(StreamError::Closed(CloseReason::Rejected { .. })))),
        "the neighbours are not concerned: {end:?}"
    );

    ask(&manager, r#"{"method":"evm_mine"}"#).await;
    assert_eq!(json(&mut heads).await["number"], "0x1");
    let accounts = ask(&manager, r#"{"method":"eth_accounts"}"#).await;
    let transact = format!(
        r#"{{"method":"eth_sendTransaction","params":[{{"from":{},"data":"{LOGS}"}}]}}"#,
        accounts[0]
    );
    let hash = ask(&manager, &transact).await;
    assert_eq!(json(&mut hashes).await, hash);
    assert_eq!(json(&mut logs).await["transactionHash"], hash);
    assert_eq!(json(&mut heads).await["number"], "0x2");
    let failed = within(manager.request(JsonRpc::NEW_HEADS, r#"{"method":"nope"}"#)).await;
    assert!(matches!(failed, Err(RequestError::Failed(_))), "{failed:?}");

    // What is given back brings nothing more.
    drop(logs);
    ask(&manager, &transact).await;
    assert_eq!(json(&mut heads).await["number"], "0x3");
    json(&mut hashes).await;
    assert_eq!((manager.metrics().unroutable, manager.metrics().active_connections), (0, 1));

    program.end(Signal::KILL).await;
    let _program = ethereum(&installed, port).await;
    for stream in [&mut heads, &mut hashes] {
        let item = within(stream.next()).await;
        let is_gap = matches!(item, Some(Err(StreamError::Gap(Gap::Reconnected { .. }))));
        assert!(is_gap, "{item:?}");
    }
    ask(&manager, r#"{"method":"evm_mine"}"#).await;
    assert_eq!(json(&mut heads).await["number"], "0x1");
    assert!(hashes.next().now_or_never().is_none());
    within(manager.shutdown()).await;
}
